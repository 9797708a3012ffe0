"""The commands. Each is a few lines; what they do lives in the rooms."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from health_pipeline import __version__
from health_pipeline.cli import backup, quarantine, restated
from health_pipeline.cli.options import FromOption, ToOption, asked_months, logged_settings, quiet_settings
from health_pipeline.errors import FileError, PipelineError, SettingsError

app = typer.Typer(
    name="health-pipeline",
    help="Monthly hospital extracts in, a readmission model out that retrains, proves itself, ships and rolls back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(restated.app, name="restated")
app.command()(backup.backup)
app.command()(backup.restore)
console = Console(stderr=True)


def run_app() -> None:
    """Run the command line; a user's mistake gives a message and an exit code, no traceback."""
    try:
        app()
    except PipelineError as error:
        _end(error)
    except OSError as error:
        if error.filename is None:
            raise
        _end(FileError.of(error))


def _end(error: PipelineError) -> NoReturn:
    console.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False)
    if error.where:
        console.print(f"  where:  {escape(error.where)}", highlight=False)
    if error.remedy:
        console.print(f"  remedy: {escape(error.remedy)}", highlight=False)
    sys.exit(error.exit_code)


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

    settings = quiet_settings()
    months = asked_months(settings, first, last)
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
        report = ingest_source(adapter, source, quiet_settings(), progress=progress)
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

    settings = quiet_settings()
    if not run_months(settings, asked_months(settings, first, last), select, console):
        raise typer.Exit(1)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """Show months, rows, champions, performance and open alerts."""
    from health_pipeline.cli.status import collect_status, print_status

    report = collect_status(quiet_settings())
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

    if not run_demo(quiet_settings(), console):
        raise typer.Exit(1)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="port of the Dagster UI on localhost", min=1, max=65_535)] = 3000,
) -> None:
    """Serve the Dagster UI and its daemon on localhost until Ctrl-C."""
    from health_pipeline.cli.up import serve

    raise typer.Exit(serve(logged_settings(), port, console))


@app.command()
def decisions(
    first: FromOption = None,
    last: ToOption = None,
    decision: Annotated[str | None, typer.Option(help="only INITIAL, DEPLOY, DEPLOY_REFRESH or SKIP")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable, with every criterion")] = False,
) -> None:
    """Show which model was put in force in which month, and why."""
    from health_pipeline.cli.decisions import print_decisions
    from health_pipeline.monitoring import decisions as made
    from health_pipeline.promotion.criteria import Outcome
    from health_pipeline.warehouse import Warehouse

    decision = decision.upper() if decision else None
    if decision and decision not in list(Outcome):
        raise SettingsError(f"no decision {decision!r}", where="--decision", remedy=f"there are: {', '.join(Outcome)}")
    settings = quiet_settings()
    months = asked_months(settings, first, last, stored=True)
    found = made(Warehouse.from_settings(settings), months, decision=decision)
    print_decisions(found, as_json=as_json)


@app.command()
def predictions(
    output: Annotated[Path, typer.Option(help="file to write: .csv or .parquet; only you can read it")],
    month: Annotated[str | None, typer.Option(help="month of the discharges, YYYY-MM [default: newest scored]")] = None,
    role: Annotated[str, typer.Option(help="champion, or a candidate: model_1, model_2, model_3")] = "champion",
) -> None:
    """Write the risk list of a month: every discharge with its probability, riskiest first."""
    from health_pipeline.modeling.risk_list import write_risk_list
    from health_pipeline.warehouse import Warehouse

    settings = quiet_settings()
    asked = asked_months(settings, month, month, where="--month").first if month else None
    written = write_risk_list(Warehouse.from_settings(settings), output, month=asked, role=role)
    console.print(
        f"{written.month:%Y-%m}: {written.stays} stays, {written.flagged} flagged, written to {output}",
        highlight=False,
        markup=False,
    )


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option(help="model id; default: what served before")] = None,
    reason: Annotated[str, typer.Option(help="recorded in the history")] = "asked for on the command line",
) -> None:
    """Let an earlier release serve again: switched, verified and recorded."""
    from health_pipeline.deployment import rollback as roll_back
    from health_pipeline.deployment import tools_of

    event = roll_back(tools_of(logged_settings()), actor=getpass.getuser(), reason=reason, to=to)
    console.print(f"{event.release} serves again after {event.seconds:.1f} s", highlight=False)


@app.command("expire-snapshots")
def expire_snapshots(
    keep_days: Annotated[int, typer.Option(help="replaced rows stay readable for so many days", min=0)] = 30,
) -> None:
    """Delete what replaced months left behind in a DuckLake; for cron. Other warehouses leave nothing."""
    import datetime as dt

    from health_pipeline.clock import system_clock
    from health_pipeline.warehouse import Warehouse
    from health_pipeline.warehouse.snapshots import expire_snapshots as expire

    warehouse = Warehouse.from_settings(quiet_settings())
    expired = expire(warehouse, dt.timedelta(days=keep_days), system_clock)
    console.print(f"{expired.snapshots} snapshots expired, {expired.files} files deleted", highlight=False)


@app.command(hidden=True)
def reference(
    folder: Annotated[Path, typer.Option(help="where the pages are written")] = Path("docs/reference"),
) -> None:
    """Write the pages of docs/reference from the code."""
    from health_pipeline.cli.reference import write_reference

    changed = write_reference(folder)
    console.print("\n".join(f"written {page}" for page in changed) or "nothing changed", highlight=False)
