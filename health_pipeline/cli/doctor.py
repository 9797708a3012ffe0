"""``health-pipeline doctor``: what is wrong here, and how to mend it."""

from __future__ import annotations

import difflib
import glob
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.errors import FileError, PipelineError
from health_pipeline.months import Month
from health_pipeline.settings import PREFIX, Settings, load_settings

FREE_GIGABYTES = 2.0
SET_BY_KUBERNETES = re.compile(r"_(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""Addresses of services, which Kubernetes puts into every pod of their namespace."""
ABSENT = "deliver them, or set HEALTH_PIPELINE_START_MONTH and HEALTH_PIPELINE_END_MONTH to the months there are"
FIRST_LOAD = "put all patients known before into the file of"
MEND_ROWS = "mend the file, or write an adapter (docs/adapters.md); docs/contracts.md says what each column takes"
PUT_BACK = "put the landing zone back if these months may have to be run again; what is stored is kept"
KNOWN_COLUMNS = "rename them as docs/contracts.md does, or leave them: they are kept in bronze only"


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
        console.print(f"{marks[finding.level]} {escape(finding.text)}", highlight=False, soft_wrap=True)
        if finding.remedy:
            console.print(f"       remedy: {escape(finding.remedy)}", highlight=False, soft_wrap=True)
    return not any(finding.level == "broken" for finding in findings)


def _findings() -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version_info.major}.{sys.version_info.minor}")
    try:
        settings = load_settings()
    except PipelineError as error:
        yield _broken(error)
        return
    yield Finding("ok", f"settings read; home is {settings.home}")
    yield from _variables()
    probes: list[Callable[[Settings], Iterator[Finding]]] = [
        _home,
        _months,
        _choices,
        _alerts,
        _landing,
        _contents,
        _warehouse,
        _records,
        _graph,
    ]
    for probe in probes:
        try:
            yield from probe(settings)
        except PipelineError as error:
            yield _broken(error)
        except OSError as error:
            yield _broken(FileError.of(error))


def _broken(error: PipelineError) -> Finding:
    return Finding("broken", f"{error.where}: {error.what}" if error.where else error.what, error.remedy or "")


def _variables() -> Iterator[Finding]:
    """Variables that no setting has: the settings cannot refuse them, since Kubernetes sets some of its own."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.partition("__")[0] not in known and not SET_BY_KUBERNETES.search(name):
            close = difflib.get_close_matches(name.partition("__")[0], known, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            yield Finding("note", f"{name} is no setting and changes nothing", f"{meant}see docs/reference/settings.md")


def _home(settings: Settings) -> Iterator[Finding]:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        yield Finding("broken", f"{folder} is no folder", "choose another HEALTH_PIPELINE_HOME")
    elif glob.has_magic(str(settings.home.resolve())):
        yield Finding(
            "broken", f"{settings.home} has one of the characters * ? [", "choose another HEALTH_PIPELINE_HOME"
        )
    elif not os.access(folder, os.W_OK):
        yield Finding("broken", f"{folder} is not writable", "choose another HEALTH_PIPELINE_HOME or change its owner")
    free = shutil.disk_usage(folder).free / 1e9
    level = "ok" if free >= FREE_GIGABYTES else "note"
    yield Finding(level, f"{free:.0f} GB free on the disk of the home", "" if level == "ok" else "free some space")


def _months(settings: Settings) -> Iterator[Finding]:
    first, last = settings.first_model_month, settings.end_month
    if last is not None and last < first:
        yield Finding(
            "note",
            f"no model yet: months end {last:%Y-%m}, the first with a model is {first:%Y-%m}",
            "deliver more months and set HEALTH_PIPELINE_END_MONTH, or shorten HEALTH_PIPELINE_WINDOWS__*",
        )
    else:
        yield Finding("ok", f"the first month with a model is {first:%Y-%m}")


def _choices(settings: Settings) -> Iterator[Finding]:
    """Settings that are looked at in the first run that needs them, which may be more than a year of months later."""
    from health_pipeline.modeling.families import family_named
    from health_pipeline.privacy.pseudonym import load_key
    from health_pipeline.promotion.plan import load_plan

    families = [family_named(name).name for name in settings.training.families]
    load_plan(settings.promotion.plan)
    if settings.privacy.pseudonym_key is not None:
        load_key(settings)
    if families:
        yield Finding("ok", f"model families: {', '.join(families)}")
    else:
        yield Finding("broken", "no model family is chosen", "name one in HEALTH_PIPELINE_TRAINING__FAMILIES")


def _alerts(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.notify.channels import check_addresses

    count = check_addresses(settings)
    yield Finding("ok", f"alerts go to {settings.home / 'logs' / 'alerts.jsonl'} and {count} addresses")


def _contents(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.sources.landing_trial import try_landing

    for name in LANDING_TABLES:
        trial = try_landing(name, settings)
        where = f"{settings.landing_uri}/{name}"
        causes: dict[tuple[str, str], list[Month]] = {}
        for month, fault in sorted(trial.faults.items()):
            causes.setdefault((fault.cause, fault.remedy), []).append(month)
        for (cause, remedy), months in causes.items():
            yield Finding("broken", f"{where}: {', '.join(f'{month:%Y-%m}' for month in months)} {cause}", remedy)
        if trial.month is None:
            continue
        refused = sum(trial.refused.values())
        text = f"{where}: {refused:,} of {trial.rows:,} rows of {trial.month:%Y-%m} would go to quarantine"
        if refused > settings.quality.max_quarantine_rate * trial.rows:
            worst = "; ".join(f"{count:,} {reason}" for reason, count in list(trial.refused.items())[:3])
            yield Finding("broken" if refused == trial.rows else "note", f"{text}: {worst}", MEND_ROWS)
        elif trial.rows:
            yield Finding("ok", text)
        if trial.unknown:
            names = ", ".join(trial.unknown[:5])
            yield Finding("note", f"{where}: columns the contract does not know: {names}", KNOWN_COLUMNS)


def _landing(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.sources.landing import landing_report

    yield from _folders(settings)
    stored = _stored_months(settings)
    for name, report in landing_report(settings).items():
        where = f"{settings.landing_uri}/{name}"
        if report.strangers:
            names = ", ".join(report.strangers[:3])
            yield Finding("note", f"{where}: not a month: {names}", "name files YYYY-MM.parquet, .csv or .csv.gz")
        if report.outside:
            months = report.outside + report.months
            wanted = f"HEALTH_PIPELINE_START_MONTH={min(months):%Y-%m} HEALTH_PIPELINE_END_MONTH={max(months):%Y-%m}"
            needed = name == "admissions"
            idle = "nothing, unless admissions have these months too"
            if name == "patients" and min(report.outside) < settings.start_month:
                idle = f"{FIRST_LOAD} {settings.start_month:%Y-%m}; earlier files are not read"
            yield Finding(
                "broken" if needed and not report.months else "note",
                f"{where}: {len(report.outside)} months lie outside START_MONTH..END_MONTH ({_span(report.outside)})",
                wanted if needed else idle,
            )
        if gone := [month for month in stored[name] if month not in report.months + report.outside]:
            yield Finding("note", f"{where}: no files of {len(gone)} stored months ({_span(gone)})", PUT_BACK)
        if not report.months:
            if report.outside or gone:
                continue
            needed = name == "admissions"
            text = f"{where}: no month has landed" + ("" if needed else "; its features will be empty")
            remedy = "health-pipeline simulate, ingest, or deliver" if needed else "nothing, or deliver"
            yield Finding("broken" if needed else "note", text, f"{remedy} {where}/YYYY-MM.csv")
        elif absent := [month for month in report.absent if month not in gone]:
            level = "broken" if name == "admissions" else "note"
            yield Finding(level, f"{where}: {len(absent)} months are missing ({_span(absent)})", ABSENT)
        else:
            yield Finding("ok", f"{where}: {len(report.months)} months ({_span(report.months)})")


def _stored_months(settings: Settings) -> dict[str, list[Month]]:
    """Months of each bronze table that hold rows; a restored home has them without their files."""
    from health_pipeline.contracts import BRONZE
    from health_pipeline.warehouse import Warehouse

    warehouse = Warehouse.from_settings(settings)
    stored: dict[str, list[Month]] = {name: [] for name in LANDING_TABLES}
    for name, table in BRONZE.items():
        if warehouse.exists(table):
            rows = warehouse.fetch(f"SELECT DISTINCT month FROM {table.qualified} ORDER BY month", "doctor")
            stored[name] = rows["month"].to_pylist()
    return stored


def _folders(settings: Settings) -> Iterator[Finding]:
    root = Path(settings.landing_uri)
    if "://" in settings.landing_uri or not root.is_dir():
        return
    unknown = sorted(each.name for each in root.iterdir() if each.is_dir() and each.name not in LANDING_TABLES)
    if unknown := [name for name in unknown if not name.startswith((".", "_"))]:
        known = ", ".join(LANDING_TABLES)
        yield Finding("note", f"{root}: folders that are no table: {', '.join(unknown[:5])}", f"tables are: {known}")


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


def _records(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.defs.instance import open_instance

    if "DAGSTER_HOME" not in os.environ and not (settings.home / "dagster").exists():
        return
    with open_instance(settings):
        yield Finding("ok", "Dagster's records open")


def _graph(settings: Settings) -> Iterator[Finding]:
    from health_pipeline.defs.build import build_definitions

    graph = build_definitions(settings).resolve_asset_graph()
    yield Finding(
        "ok", f"definitions load: {len(graph.materializable_asset_keys)} assets, {len(graph.asset_check_keys)} checks"
    )
