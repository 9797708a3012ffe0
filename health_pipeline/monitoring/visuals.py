"""All files of a run's months: the dashboard of each, and what costs seconds only where it is wanted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from health_pipeline.monitoring.evidently_report import draw_evidently
from health_pipeline.monitoring.figures import draw_month
from health_pipeline.months import Month, MonthRange
from health_pipeline.promotion.tables import CHAMPION

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse


def draw_months(warehouse: Warehouse, months: MonthRange, settings: Settings) -> dict[Month, list[Path]]:
    """Write dashboards, PNG exports (``monitoring.png``) and Evidently's report (``monitoring.evidently``).

    A file that a month does not get this time is removed if it is there: it would tell of older numbers.

    A month up to which no model was ever in force has nothing to show and gets no files.

    Returns:
        The files of each month, the dashboard first.
    """
    knobs = settings.monitoring
    first = _first_model(warehouse)
    files: dict[Month, list[Path]] = {}
    for month in months:
        is_latest = month == months.last
        if first is None or month < first:
            shutil.rmtree(settings.outputs / "visuals" / f"{month:%Y-%m}", ignore_errors=True)
            files[month] = []
            continue
        files[month] = draw_month(warehouse, month, settings, png=_wanted(knobs.png, is_latest))
        if _wanted(knobs.evidently, is_latest):
            report = draw_evidently(warehouse, month, settings)
            files[month] += [report] if report else []
        else:
            (files[month][0].parent / "evidently.html").unlink(missing_ok=True)
    return files


def _first_model(warehouse: Warehouse) -> Month | None:
    """First month with a model in force."""
    warehouse.ensure(CHAMPION)
    with warehouse.read("first model in force") as connection:
        found = connection.execute(f"SELECT min(month) FROM {CHAMPION.qualified} WHERE model_id IS NOT NULL").fetchone()
    return found[0] if found else None


def _wanted(choice: Literal["latest", "all", "off"], is_latest: bool) -> bool:
    return choice == "all" or (choice == "latest" and is_latest)
