"""Evidently's data drift report of a month: a second opinion beside ``monitoring.drift``, by other methods.

Both sides are small samples chosen by hash, of the features that moved most, so that the report costs seconds whatever
the hospital's size and number of features. Keys and
times never enter; rare categories are pooled and extreme numbers clipped, because the report draws distributions.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from health_pipeline.environment import prepare_environment
from health_pipeline.monitoring.champions import champions
from health_pipeline.monitoring.distributions import Measured, measured_columns
from health_pipeline.monitoring.tables import DRIFT
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse

LEAST_ROWS = 30
"""Rows of a side, and values of a column on a side, below which nothing is compared."""
CLIPPED_SHARE = 0.005
OTHERS = "(others)"
_RANDOM_NAME = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[47][0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}")
"""A UUID, random or from the clock (versions 4 and 7, RFC 9562): Evidently names the parts of a page by them."""
_log = structlog.get_logger(__name__)


def draw_evidently(warehouse: Warehouse, month: Month, settings: Settings) -> Path | None:
    """Write ``<home>/outputs/visuals/<YYYY-MM>/evidently.html``, one page that needs no network.

    Args:
        warehouse: ``gold.features`` and ``models.champion``.
        month: compared with the training window of its champion.
        settings: home, windows, ``monitoring.evidently_rows`` and ``evidently_columns``, seed, small numbers.

    Returns:
        The file; None, with a warning in the log, when there is nothing to compare. An older report is then removed.
    """
    target = settings.outputs / "visuals" / f"{month:%Y-%m}" / "evidently.html"
    sides = _sides(warehouse, month, settings)
    if isinstance(sides, str):
        _log.warning("evidently.no_data", month=str(month), reason=sides)
        target.unlink(missing_ok=True)
        return None
    current, reference = sides
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_page(current, reference, month), "utf-8")
    return target


def _sides(warehouse: Warehouse, month: Month, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    """Frames of the month and of its reference with the same columns, or why there are none."""
    from health_pipeline.features import FEATURE_TABLE
    from health_pipeline.promotion.tables import CHAMPION

    warehouse.ensure(FEATURE_TABLE, CHAMPION, DRIFT)
    one = MonthRange(month, month)
    with warehouse.read(f"evidently {month:%Y-%m}") as connection:
        model = champions(connection, Slice(CHAMPION, one), settings).get(month)
        if model is None:
            return "no champion is in force"
        if model.windows is None:
            return "the champion has no training window"
        columns = _most_moved(
            measured_columns(connection, str(Slice(FEATURE_TABLE, one))), _moved(connection, month), settings
        )
        current, reference = (
            _sample(connection, Slice(FEATURE_TABLE, months), columns, settings)
            for months in (one, model.windows.training)
        )
    if min(len(current), len(reference)) < LEAST_ROWS:
        return "too few discharges on one side"
    kept = [name for name in current if min(current[name].count(), reference[name].count()) >= LEAST_ROWS]
    if not kept:
        return "no feature has values on both sides"
    current, reference = current[kept], reference[kept]
    for column in columns:
        if column.name in kept:
            _coarsen(column, current, reference, settings.privacy.small_number)
    return current, reference


def _moved(connection: DuckDBPyConnection, month: Month) -> list[str]:
    """Features by how near their PSI came to its limit, nearest first; none when drift was not computed."""
    rows = connection.execute(
        f"SELECT subject FROM {Slice(DRIFT, MonthRange(month, month))} WHERE subject_kind = 'feature' "
        "AND metric = 'psi' AND reference = 'training_window' AND value IS NOT NULL "
        "ORDER BY value / threshold DESC, subject"
    ).fetchall()
    return [subject for (subject,) in rows]


def _most_moved(columns: Sequence[Measured], moved: Sequence[str], settings: Settings) -> list[Measured]:
    """At most ``evidently_columns``, those that moved most; in the order of the table."""
    places = {name: place for place, name in enumerate(moved)}
    ranked = sorted(columns, key=lambda column: places.get(column.name, len(places)))
    kept = {column.name for column in ranked[: settings.monitoring.evidently_columns]}
    return [column for column in columns if column.name in kept]


def _sample(
    connection: DuckDBPyConnection, features: Slice, columns: Sequence[Measured], settings: Settings
) -> pd.DataFrame:
    """At most ``evidently_rows`` rows, the same ones each time; numbers as float, everything else as text."""
    values = ", ".join(
        f'CASE WHEN isfinite("{column.name}"::DOUBLE) THEN "{column.name}"::DOUBLE END AS "{column.name}"'
        if column.kind == "numeric"
        else f'"{column.name}"::VARCHAR AS "{column.name}"'
        for column in columns
    )
    rows = connection.execute(
        f"SELECT {values} FROM {features} ORDER BY hash(encounter_id, $seed), encounter_id LIMIT $rows",
        {"seed": settings.training.seed, "rows": settings.monitoring.evidently_rows},
    ).to_arrow_table()
    frame: pd.DataFrame = rows.to_pandas()
    return frame.astype({column.name: float if column.kind == "numeric" else object for column in columns})


def _coarsen(column: Measured, current: pd.DataFrame, reference: pd.DataFrame, small_number: int) -> None:
    """Take out what could tell a single patient: the ends of a numeric column, the rare values of another.

    Both sides are cut at the outer quantiles of either, so that a side that moved as a whole stays where it is.
    """
    sides, name = (current, reference), column.name
    if column.kind == "numeric":
        low = min(side[name].quantile(CLIPPED_SHARE) for side in sides)
        high = max(side[name].quantile(1 - CLIPPED_SHARE) for side in sides)
        for side in sides:
            side[name] = side[name].clip(low, high)
        return
    counts = [side[name].value_counts() for side in sides]
    rare = {value for count in counts for value in count.index[count < small_number]}
    for side in sides:  # the same values on both, or pooling itself would look like drift
        side[name] = side[name].where(~side[name].isin(rare), OTHERS)


def _page(current: pd.DataFrame, reference: pd.DataFrame, month: Month) -> str:
    """The report as HTML, with the random names of its parts numbered instead: the same rows give the same page."""
    import numpy as np

    prepare_environment()  # no telemetry, before the import
    numeric = [name for name in current if current[name].dtype == float]
    # Evidently 0.7 and what it imports use deprecated names of their libraries, and divide by the spread of constants.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(
            numerical_columns=numeric, categorical_columns=[name for name in current if name not in numeric]
        )
        now, before = (Dataset.from_pandas(side, data_definition=definition) for side in (current, reference))
        closed = dt.datetime.combine(shift(month, 1), dt.time())
        page: str = (
            Report([DataDriftPreset()], include_tests=False).run(now, before, timestamp=closed).get_html_str(False)
        )
    drawn: dict[str, str] = {}
    return _RANDOM_NAME.sub(lambda found: drawn.setdefault(found[0], f"part{len(drawn)}"), page)
