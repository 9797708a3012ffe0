"""``health-pipeline quarantine``: what was refused and why, and another run once it is mended."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as View

from health_pipeline.cli.options import FromOption, ToOption, asked_months, quiet_settings

app = typer.Typer(help="Rows that were refused, and another try.", no_args_is_help=True)


@app.command("list")
def list_rows(
    first: FromOption = None,
    last: ToOption = None,
    table: Annotated[str | None, typer.Option(help="only this landing table")] = None,
) -> None:
    """Show refused rows by month, table, file and rule; never their values."""
    from health_pipeline.contracts import LANDING_TABLES
    from health_pipeline.contracts.quarantine_review import list_rejected
    from health_pipeline.errors import SettingsError
    from health_pipeline.warehouse import Warehouse

    if table is not None and table not in LANDING_TABLES:
        raise SettingsError(
            f"no landing table {table!r}", where="--table", remedy=f"tables are: {', '.join(LANDING_TABLES)}"
        )
    settings = quiet_settings()
    groups = list_rejected(Warehouse.from_settings(settings), asked_months(settings, first, last, stored=True), table)
    view = View("month", "file", "rule", "rows", "first rows", "reason")
    for group in groups:
        rows = ", ".join(str(number) for number in group.source_rows)
        view.add_row(f"{group.month:%Y-%m}", group.source_file, group.rule, f"{group.rows:,}", rows, group.reason)
    Console().print(view if groups else "nothing is in quarantine")


@app.command()
def retry(first: FromOption = None, last: ToOption = None) -> None:
    """Run the months again whose file or rules were mended."""
    from health_pipeline.cli.run import run_months
    from health_pipeline.contracts.quarantine_review import months_to_run, retries
    from health_pipeline.months import MonthRange
    from health_pipeline.warehouse import Warehouse

    settings = quiet_settings()
    console = Console(stderr=True)
    found = retries(Warehouse.from_settings(settings), asked_months(settings, first, last, stored=True), settings)
    for each in found:
        if each.fault:
            console.print(f"[red]{each.month:%Y-%m} {each.table}[/]: {each.fault}", highlight=False)
    due = months_to_run(found)
    if not due:
        console.print("no month would come out differently: mend the file or the rule first")
        raise typer.Exit(0 if not any(each.fault for each in found) else 1)
    for month in due:
        extracts = "group:bronze,group:silver,key:gold/features,key:gold/labels,key:gold/cohort_attrition"
        if not run_months(settings, MonthRange(month, month), extracts, console):
            raise typer.Exit(1)
    console.print("What rests on earlier versions of these months, and its re-run: health-pipeline restated list")
