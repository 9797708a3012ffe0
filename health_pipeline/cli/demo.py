"""``health-pipeline demo``: from nothing to champion, predictions and monitoring on a simulated hospital."""

from __future__ import annotations

import time

from rich.console import Console

from health_pipeline.settings import Settings


def run_demo(settings: Settings, console: Console) -> bool:
    """Simulate, materialise what is missing or stale, print the summary; returns whether all went well.

    A second call finds everything in place and only prints the summary.
    """
    from health_pipeline.cli.progress import work_progress
    from health_pipeline.cli.run import run_months
    from health_pipeline.cli.status import collect_status, print_status
    from health_pipeline.sources.landing import landing_report
    from health_pipeline.sources.simulator import simulate

    began = time.monotonic()
    months = settings.months
    if landing_report(settings)["admissions"].absent:
        with work_progress("simulating", len(months)) as progress:
            simulate(months, settings, progress=progress)
    else:
        console.print(f"extracts of {months} are in {settings.landing_uri}", highlight=False, markup=False)
    if not _is_complete(settings) and not run_months(settings, months, None, console):
        return False
    print_status(collect_status(settings), Console())
    console.print(
        f"\n[green]ready[/] after {time.monotonic() - began:.0f} s. Look at it in the Dagster UI: [bold]make up[/]"
    )
    return True


def _is_complete(settings: Settings) -> bool:
    """Whether every month of every asset that a run materialises is there."""
    from health_pipeline.defs.build import build_definitions
    from health_pipeline.defs.instance import open_instance
    from health_pipeline.defs.runner import plan_runs

    with open_instance(settings) as instance:
        return all(
            set(run.months.keys()) <= instance.get_materialized_partitions(key)
            for run in plan_runs(build_definitions(settings), settings.months)
            for key in run.keys
        )
