"""The commands. Each is a few lines; what they do lives in the rooms."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from health_pipeline import __version__
from health_pipeline.errors import PipelineError, SettingsError
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import Settings, load_settings

app = typer.Typer(
    name="health-pipeline",
    help="Monthly hospital extracts in, a readmission model out that retrains, proves itself, ships and rolls back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

FromOption = Annotated[str | None, typer.Option("--from", help="first month, YYYY-MM [default: START_MONTH]")]
ToOption = Annotated[str | None, typer.Option("--to", help="last month, YYYY-MM [default: END_MONTH]")]


def run_app() -> None:
    """Run the command line; a user's mistake gives a message and an exit code, no traceback."""
    try:
        app()
    except PipelineError as error:
        console.print(f"[bold red]error:[/] {error.what}", highlight=False)
        if error.where:
            console.print(f"  where:  {error.where}", highlight=False)
        if error.remedy:
            console.print(f"  remedy: {error.remedy}", highlight=False)
        sys.exit(error.exit_code)


def _settings(*, quiet: bool = False) -> Settings:
    """Read the settings and set up the log; quiet commands show progress and keep the log in the home."""
    from health_pipeline.logs import configure_logging

    settings = load_settings()
    stream = Path(os.devnull).open("w") if quiet else None  # noqa: SIM115  # lives as long as the process
    configure_logging(settings, json=settings.log_format == "json", level=settings.log_level, stream=stream)
    return settings


def _months(settings: Settings, first: str | None, last: str | None) -> MonthRange:
    try:
        start = parse_month(first) if first else settings.start_month
        end = parse_month(last) if last else settings.end_month
        if end is None:
            raise SettingsError("END_MONTH is open", where="--to", remedy="name the last month: --to YYYY-MM")
        return MonthRange(start, end)
    except ValueError as error:
        raise SettingsError(str(error), where="--from/--to", remedy="write months as YYYY-MM") from None


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def simulate(first: FromOption = None, last: ToOption = None) -> None:
    """Write the monthly extracts of the built-in hospital into the landing zone."""
    from health_pipeline.cli.progress import work_progress
    from health_pipeline.sources.simulator import simulate as simulate_months

    settings = _settings(quiet=True)
    months = _months(settings, first, last)
    with work_progress("simulating") as progress:
        report = simulate_months(months, settings, progress=progress)
    console.print(str(report), highlight=False)


@app.command()
def ingest(
    adapter: Annotated[str, typer.Argument(help="name of the source format: uci, synthea, omop, ...")],
    source: Annotated[Path, typer.Option("--input", help="file or folder of the extract")],
) -> None:
    """Turn a foreign extract into landing files."""
    from health_pipeline.cli.progress import work_progress
    from health_pipeline.sources.ingest import ingest as ingest_source

    with work_progress(f"reading {adapter}") as progress:
        report = ingest_source(adapter, source, _settings(quiet=True), progress=progress)
    console.print(str(report), highlight=False)


@app.command()
def run(
    first: FromOption = None,
    last: ToOption = None,
    select: Annotated[
        str | None,
        typer.Option("--select", help="assets, for example gold/features or group:models or +models/champion"),
    ] = None,
) -> None:
    """Materialise months of the graph, as Dagster runs that the UI shows."""
    from health_pipeline.cli.run import run_months

    settings = _settings(quiet=True)
    if not run_months(settings, _months(settings, first, last), select, console):
        raise typer.Exit(1)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """Show months, rows, champions, performance and open alerts."""
    from health_pipeline.cli.status import collect_status, print_status

    report = collect_status(_settings(quiet=True))
    if as_json:
        typer.echo(json.dumps(report, indent=2, default=str))
    else:
        print_status(report, Console())


@app.command()
def doctor() -> None:
    """Look for what is wrong with this installation and home, and say how to mend it."""
    from health_pipeline.cli.doctor import examine

    if not examine(Console()):
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Simulate a hospital, materialise the whole graph for all months, and print a summary."""
    from health_pipeline.cli.demo import run_demo

    if not run_demo(_settings(quiet=True), console):
        raise typer.Exit(1)


@app.command()
def up(port: Annotated[int, typer.Option(help="port of the Dagster UI on localhost")] = 3000) -> None:
    """Serve the Dagster UI and its daemon on localhost until Ctrl-C."""
    from health_pipeline.cli.up import serve

    raise typer.Exit(serve(_settings(), port, console))
