"""``health-pipeline restated``: months that landed again after their use, and the re-run of what rests on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as View

from health_pipeline.cli.options import quiet_settings
from health_pipeline.contracts.restatement_review import Rerun, Review, spans
from health_pipeline.months import Month
from health_pipeline.settings import Settings

app = typer.Typer(
    help="Months that were corrected or came late, what rests on them, and its re-run.", no_args_is_help=True
)
SHOWN = 8


@app.command("list")
def list_restated(as_json: Annotated[bool, typer.Option("--json", help="machine-readable, complete")] = False) -> None:
    """Show restated months, the months and decisions that rest on what they were, and the commands of the re-run."""
    review = _reviewer(quiet_settings())()
    if as_json:
        print(json.dumps(_report(review), indent=2))  # noqa: T201
        return
    _print(review, Console())


@app.command()
def rerun(
    decisions: Annotated[
        bool,
        typer.Option("--decisions", help="also train, decide, score and monitor again from the first touched month on"),
    ] = False,
) -> None:
    """Read corrected files and make features and labels again; past decisions only when asked for."""
    from health_pipeline.cli.run import run_months

    settings = quiet_settings()
    console = Console(stderr=True)
    review = _reviewer(settings)

    def run(planned: Rerun) -> None:
        console.print(planned.command, highlight=False, soft_wrap=True)
        if not run_months(settings, planned.months, planned.select, console):
            raise typer.Exit(1)

    for planned in review().extract_reruns:
        run(planned)
    for planned in review().table_reruns:
        run(planned)
    last = review().result_rerun
    if last is None:
        console.print("everything rests on what lies in the landing zone now")
    elif decisions:
        run(last)
    else:
        console.print(
            "Models, decisions and predictions stay as they were, right on what was known. To make them again:"
        )
        console.print("  health-pipeline restated rerun --decisions", highlight=False)


def _reviewer(settings: Settings) -> Callable[[], Review]:
    """Asks for what is restated now; the graph is built once, each run in between changes the answer."""
    from health_pipeline.defs.build import build_definitions
    from health_pipeline.defs.instance import open_instance
    from health_pipeline.defs.restated import records

    definitions = build_definitions(settings)

    def review() -> Review:
        with open_instance(settings) as instance:
            return records(definitions, instance, settings).review()

    return review


def _report(review: Review) -> dict[str, Any]:
    def names(months: list[Month]) -> list[str]:
        return [f"{month:%Y-%m}" for month in months]

    last = review.result_rerun
    return {
        "waiting": names(list(review.waiting)),
        "restated": [
            {
                "table": each.table,
                "month": f"{each.month:%Y-%m}",
                "change": each.change,
                "months_behind": {
                    table: names(months) for table in review.behind if (months := review.months_behind(each, table))
                },
                "decisions": [
                    {
                        "month": f"{made.month:%Y-%m}",
                        "decision": made.decision,
                        "model_id": made.model_id,
                        "fitted_on": names(list(made.fitted)),
                        "judged_on": names(list(made.judged)),
                    }
                    for made in review.decisions_on(each)
                ],
            }
            for each in review.restated
        ],
        "commands": [
            each.command for each in (*review.extract_reruns, *review.table_reruns, *([last] if last else []))
        ],
    }


def _print(review: Review, console: Console) -> None:
    if review.waiting:
        console.print(f"Landed again, not read yet: {spans(review.waiting)}", highlight=False)
    if review.restated:
        view = View("month", "table", "change", "months that rest on what it was", "decisions that do")
        for each in review.restated:
            behind = [f"{name} {spans(months)}" for name, months in review.resting_on(each).items()]
            made = [f"{decision.month:%Y-%m} {decision.decision}" for decision in review.decisions_on(each)]
            more = f" and {len(made) - SHOWN} more" if len(made) > SHOWN else ""
            view.add_row(
                f"{each.month:%Y-%m}",
                each.table,
                each.change,
                "\n".join(behind) or "-",
                ", ".join(made[:SHOWN]) + more or "-",
            )
        console.print(view)
    if not (review.waiting or review.restated):
        console.print("nothing is restated: everything rests on what lies in the landing zone now")
        return
    if review.extract_reruns or review.table_reruns:
        console.print(
            "Read it again and make features and labels anew: health-pipeline restated rerun", highlight=False
        )
    for planned in (*review.extract_reruns, *review.table_reruns):
        console.print(f"  {planned.command}", highlight=False, soft_wrap=True)
    last = review.result_rerun
    if last:
        console.print(
            "Models, decisions and predictions too: health-pipeline restated rerun --decisions", highlight=False
        )
        console.print(f"  {last.command}", highlight=False, soft_wrap=True)
