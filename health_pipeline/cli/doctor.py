"""``health-pipeline doctor``: what is wrong here, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from health_pipeline.errors import PipelineError
from health_pipeline.months import Month
from health_pipeline.settings import Settings, load_settings

FREE_GIGABYTES = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, ``note`` (works, but look) or ``broken``, with the remedy."""

    level: str
    text: str
    remedy: str = ""


def examine(console: Console) -> bool:
    """Print every finding; returns False when something is broken."""
    marks = {"ok": "[green]ok    [/]", "note": "[yellow]note  [/]", "broken": "[red]broken[/]"}
    findings = list(_findings())
    for finding in findings:
        console.print(f"{marks[finding.level]} {finding.text}", highlight=False)
        if finding.remedy:
            console.print(f"       remedy: {finding.remedy}", highlight=False)
    return not any(finding.level == "broken" for finding in findings)


def _findings() -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version_info.major}.{sys.version_info.minor}")
    try:
        settings = load_settings()
    except PipelineError as error:
        yield Finding("broken", error.what, error.remedy or "")
        return
    yield Finding("ok", f"settings read; home is {settings.home}")
    probes: list[Callable[[Settings], Iterator[Finding]]] = [_home, _landing, _warehouse, _graph]
    for probe in probes:
        try:
            yield from probe(settings)
        except PipelineError as error:
            yield Finding("broken", error.what, error.remedy or "")


def _home(settings: Settings) -> Iterator[Finding]:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Finding("broken", f"{folder} is not writable", "choose another HEALTH_PIPELINE_HOME or change its owner")
    free = shutil.disk_usage(folder).free / 1e9
    level = "ok" if free >= FREE_GIGABYTES else "note"
    yield Finding(level, f"{free:.0f} GB free on the disk of the home", "" if level == "ok" else "free some space")


def _landing(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.sources.landing import landing_report

    for name, report in landing_report(settings).items():
        where = f"{settings.landing_uri}/{name}"
        if report.strangers:
            names = ", ".join(report.strangers[:3])
            yield Finding("note", f"{where}: not a month: {names}", "name files YYYY-MM.parquet, .csv or .csv.gz")
        if report.outside:
            yield Finding(
                "note",
                f"{where}: {len(report.outside)} months lie outside START_MONTH..END_MONTH ({_span(report.outside)})",
                "set HEALTH_PIPELINE_START_MONTH and HEALTH_PIPELINE_END_MONTH",
            )
        if not report.months:
            needed = name == "admissions"
            text = f"{where}: no month has landed" + ("" if needed else "; its features will be empty")
            yield Finding("broken" if needed else "note", text, "health-pipeline simulate, ingest, or deliver files")
        elif report.absent:
            level = "broken" if name == "admissions" else "note"
            yield Finding(
                level, f"{where}: {len(report.absent)} months are missing ({_span(report.absent)})", "deliver them"
            )
        else:
            yield Finding("ok", f"{where}: {len(report.months)} months ({_span(report.months)})")


def _span(months: Sequence[Month]) -> str:
    return f"{months[0]:%Y-%m}..{months[-1]:%Y-%m}"


def _warehouse(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.warehouse import Warehouse

    if settings.warehouse.backend == "duckdb" and not settings.warehouse_path.exists():
        yield Finding("note", "no warehouse yet", "health-pipeline run")
        return
    with Warehouse.from_settings(settings).read("doctor") as connection:
        row = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE NOT internal").fetchone()
    yield Finding("ok", f"warehouse opens; {row[0] if row else 0} tables")


def _graph(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.defs.build import build_definitions

    graph = build_definitions(settings).resolve_asset_graph()
    yield Finding(
        "ok", f"definitions load: {len(graph.materializable_asset_keys)} assets, {len(graph.asset_check_keys)} checks"
    )
