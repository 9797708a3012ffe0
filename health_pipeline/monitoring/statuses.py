"""The status of whole months, read from the monitoring tables: what checks and sensors go by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse
    from health_pipeline.warehouse.tables import Table

_RANK = {"ok": 0, "warning": 1, "no_data": 2, "alarm": 3}
JUDGED_METRICS = ("roc_auc", "observed_expected", "calibration_slope", "calibration_intercept")


@dataclass(frozen=True)
class MonthStatus:
    """What a month looked like.

    Attributes:
        month: the month.
        drift: status of the month's drift summary.
        performance: worst status of the champion's measures, estimated and realised, in that month alone.
        subjects: what alarmed, by name.
    """

    month: Month
    drift: str
    performance: str
    subjects: tuple[str, ...] = ()

    @property
    def violates(self) -> bool:
        """Whether the month alarmed. A month without data does not: its check reports that as an error."""
        return "alarm" in {self.drift, self.performance}


@dataclass(frozen=True)
class RetrainRequest:
    """A wish for a new model, with its reason.

    Attributes:
        month: latest month, which violates.
        violating: the violating months of the window, in order.
        reason: for the run's tags and the alert.
    """

    month: Month
    violating: tuple[Month, ...]
    reason: str


def worst(statuses: Iterable[str]) -> str:
    """The most severe status; ``no_data`` of nothing."""
    return max(statuses, key=_RANK.__getitem__, default="no_data")


def month_statuses(warehouse: Warehouse, months: MonthRange) -> list[MonthStatus]:
    """Status of each month; a month without rows is ``no_data``."""
    drift = rows_of(warehouse, DRIFT, months, "status <> 'ok' OR subject_kind = 'summary'")
    listed = ", ".join(f"'{metric}'" for metric in JUDGED_METRICS)
    performance = rows_of(
        warehouse,
        PERFORMANCE,
        months,
        "model_role = 'champion' AND segment = 'all' AND window_months = 1 AND kind IN ('estimated', 'realised') "
        f"AND metric IN ({listed})",
    )
    return [
        MonthStatus(
            month,
            worst(row["status"] for row in drift if row["month"] == month and row["subject_kind"] == "summary"),
            worst(row["status"] for row in performance if row["month"] == month),
            tuple(
                dict.fromkeys(
                    [
                        *(
                            row["subject"]
                            for row in drift
                            if row["month"] == month
                            and row["status"] == "alarm"
                            and row["subject_kind"] != "summary"
                            and row["reference"] != "same_season"
                        ),
                        *(row["metric"] for row in performance if row["month"] == month and row["status"] == "alarm"),
                    ]
                )
            ),
        )
        for month in months
    ]


def drift_request(statuses: Sequence[MonthStatus], settings: Settings) -> RetrainRequest | None:
    """Ask for a retrain when enough of the last months violate, the latest included.

    Args:
        statuses: months in order; the last one is the latest monitored month.
        settings: ``monitoring.drift_months`` of ``monitoring.drift_window``.
    """
    if not statuses or not statuses[-1].violates:
        return None
    latest = statuses[-1].month
    first = shift(latest, 1 - settings.monitoring.drift_window)
    violating = [status for status in statuses if status.month >= first and status.violates]
    if len(violating) < settings.monitoring.drift_months:
        return None
    subjects = ", ".join(dict.fromkeys(name for status in violating for name in status.subjects))
    return RetrainRequest(
        latest,
        tuple(status.month for status in violating),
        f"{len(violating)} of the last {settings.monitoring.drift_window} months alarmed: {subjects}",
    )


def rows_of(warehouse: Warehouse, table: Table, months: MonthRange, where: str = "true") -> list[dict[str, Any]]:
    """Rows of a monitoring table in declared order; none when the table was never written."""
    warehouse.ensure(table)
    with warehouse.read(f"{table.qualified} {months}") as connection:
        order = ", ".join((table.partition, *table.key))
        found = connection.execute(f"SELECT * FROM {Slice(table, months)} WHERE {where} ORDER BY {order}")
        rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    return rows
