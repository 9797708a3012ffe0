"""``health-pipeline run``: months of the graph with a progress bar for each run."""

from __future__ import annotations

import time

import dagster as dg
from dagster._core.events.log import EventLogEntry
from rich.console import Console
from rich.progress import Progress, TaskID

from health_pipeline.cli.progress import progress_bar
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.restated import records
from health_pipeline.defs.runner import PlannedRun, RunOutcome, execute, plan_runs
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings

LONGEST_ERROR = 1200


def run_months(settings: Settings, months: MonthRange, select: str | None, console: Console) -> bool:
    """Run what is selected for the months; returns whether all went well."""
    from health_pipeline.defs.build import build_definitions

    defs = build_definitions(settings)
    planned = plan_runs(defs, months, select)
    began = time.monotonic()
    with open_instance(settings) as instance, progress_bar(console) as bar:
        for number, run in enumerate(planned, start=1):
            task = bar.add_task(f"run {number}/{len(planned)}", total=len(run.keys) * len(run.months))
            outcome = execute(defs, run, instance, listeners=[_Advance(bar, task, run)])
            if not outcome.success:
                bar.stop()
                _explain(outcome, console)
                return False
            _warn(outcome, console)
        records(defs, instance, settings).lift()
    console.print(f"[green]done[/] {months} in {time.monotonic() - began:.0f} s", highlight=False)
    return True


class _Advance:
    """Moves the bar by a step for each materialised month and names the asset at work."""

    def __init__(self, bar: Progress, task: TaskID, run: PlannedRun) -> None:
        self._bar, self._task, self._run = bar, task, run

    def __call__(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.event_type == dg.DagsterEventType.STEP_START:
            step = (event.step_key or "").replace("__", "/")
            self._bar.update(self._task, description=f"{self._run.months} {step:32.32}")
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._bar.update(self._task, advance=1)


def _explain(outcome: RunOutcome, console: Console) -> None:
    console.print(f"[bold red]failed[/] {outcome.planned.months} (run {outcome.run_id})", highlight=False)
    for error in outcome.errors:
        shown = error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]} ... (all of it in the UI)"
        console.print(f"  {shown}", highlight=False, markup=False)
    _warn(outcome, console)
    console.print(
        "What was stored before is untouched. Mend the cause and run the same command again.", highlight=False
    )


def _warn(outcome: RunOutcome, console: Console) -> None:
    by_check: dict[str, list[str]] = {}
    for line in outcome.failed_checks:
        severity, name, *partition = line.split(" ")
        by_check.setdefault(f"{severity} {name}", []).extend(key[:7] for key in partition)
    for name, keys in sorted(by_check.items()):
        shown = ", ".join(sorted(keys)[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
        console.print(f"  [yellow]check[/] {name}: {shown}", highlight=False)
