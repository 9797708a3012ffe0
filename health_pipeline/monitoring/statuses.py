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
CONCEPT_METRIC = "concept_change"
NOT_SUBJECTS = frozenset({"summary", "live", "live_input"})
"""Kinds of rows that say nothing about one property of the month's patients."""


@dataclass(frozen=True)
class MonthStatus:
    """What a month looked like.

    Attributes:
        month: the month.
        drift: status of the month's drift summary.
        estimated: worst status of the champion's measures in that month, estimated without labels.
        realised: the same on outcomes, a changed concept included; ``no_data`` until they have matured.
        subjects: what alarmed, by name.
    """

    month: Month
    drift: str
    estimated: str
    realised: str = "no_data"
    subjects: tuple[str, ...] = ()

    @property
    def performance(self) -> str:
        """Worst of estimate and outcome, as far as the outcome is known."""
        return self.estimated if self.realised == "no_data" else worst([self.estimated, self.realised])

    @property
    def violates_at_once(self) -> bool:
        """Whether what is known when the month closes alarms. No data does not: its check reports that as an error."""
        return "alarm" in {self.drift, self.estimated}

    @property
    def violates(self) -> bool:
        """Whether anything known by now alarms."""
        return self.violates_at_once or self.realised == "alarm"


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
        "model_role = 'champion' AND segment = 'all' AND window_months = 1 AND ("
        f"kind IN ('estimated', 'realised') AND metric IN ({listed}) "
        # A test that lacks history says nothing about the month.
        f"OR kind = 'concept' AND metric = '{CONCEPT_METRIC}' AND status <> 'no_data')",
    )

    def judged(month: Month, *kinds: str) -> str:
        return worst(row["status"] for row in performance if row["month"] == month and row["kind"] in kinds)

    return [
        MonthStatus(
            month,
            worst(row["status"] for row in drift if row["month"] == month and row["subject_kind"] == "summary"),
            judged(month, "estimated"),
            judged(month, "realised", "concept"),
            tuple(
                dict.fromkeys(
                    [
                        *(
                            row["subject"]
                            for row in drift
                            if row["month"] == month
                            and row["status"] == "alarm"
                            and row["subject_kind"] not in NOT_SUBJECTS
                            and row["reference"] != "same_season"
                        ),
                        *(row["metric"] for row in performance if row["month"] == month and row["status"] == "alarm"),
                    ]
                )
            ),
        )
        for month in months
    ]


def drift_request(
    statuses: Sequence[MonthStatus], settings: Settings, last_request: Month | None = None
) -> RetrainRequest | None:
    """Ask for a retrain when enough of the last months violate, the latest included.

    Outcomes mature later than drift shows, so they are judged on their own: the latest month is then the latest matured
    one. Without that a changed concept, which no feature shows, would never ask for anything.

    Args:
        statuses: months in order; the last one is the latest monitored month.
        settings: ``monitoring.drift_months`` of ``monitoring.drift_window``.
        last_request: latest monitored month when a retrain was last asked for; None: never. Until ``drift_window``
            months have followed it the same alarms would only ask for what has just been done.
    """
    if last_request and statuses and statuses[-1].month < shift(last_request, settings.monitoring.drift_window):
        return None
    matured = [status for status in statuses if status.realised != "no_data"]
    return _request(
        statuses, [status for status in statuses if status.violates_at_once], "drift or estimated loss", settings
    ) or _request(matured, [status for status in matured if status.realised == "alarm"], "realised loss", settings)


def _request(
    statuses: Sequence[MonthStatus], violating: Sequence[MonthStatus], what: str, settings: Settings
) -> RetrainRequest | None:
    if not statuses or not violating or violating[-1] is not statuses[-1]:
        return None
    knobs, latest = settings.monitoring, statuses[-1].month
    recent = [status for status in violating if status.month >= shift(latest, 1 - knobs.drift_window)]
    if len(recent) < knobs.drift_months:
        return None
    subjects = ", ".join(dict.fromkeys(name for status in recent for name in status.subjects))
    return RetrainRequest(
        latest,
        tuple(status.month for status in recent),
        f"{what} in {len(recent)} of the last {knobs.drift_window} months: {subjects}",
    )


def rows_of(warehouse: Warehouse, table: Table, months: MonthRange, where: str = "true") -> list[dict[str, Any]]:
    """Rows of a monitoring table in declared order; none when the table was never written."""
    warehouse.ensure(table)
    with warehouse.read(f"{table.qualified} {months}") as connection:
        order = ", ".join((table.partition, *table.key))
        found = connection.execute(f"SELECT * FROM {Slice(table, months)} WHERE {where} ORDER BY {order}")
        rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    return rows
