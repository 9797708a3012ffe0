"""Checks of what landed (bronze): is the month there, is there about as much as before, are its columns the contract's?

The label source fails a month that has no rows; a feature source only warns, since its features then are null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.contracts.warehouse_tables import BRONZE
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Severity, Verdict
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice

HISTORY_MONTHS = 6
MIN_HISTORY_MONTHS = 3
KNOWN_MONTHS = 12
"""A feature table with rows in any of so many months before is expected to go on."""

MIN_USUAL_ROWS = 20
"""Below so many rows a month, a third of them or three times as many are chance."""

MIN_EXPECTED_VALUES = 10
"""A column counts as lost when the months before let expect at least this many values and there is none."""

Evaluate = Callable[[Warehouse, MonthRange, Settings], Sequence[Verdict]]


def source_checks() -> tuple[Check, ...]:
    """Three checks for each landing table."""
    checks: list[Check] = []
    for table in LANDING_TABLES.values():
        kind = "label" if table.is_label_source else "feature"
        checks += [
            Check(
                "source_present",
                table.bronze,
                f"The month has rows: {table.name} is a {kind} source.",
                _present(table),
                blocking=table.is_label_source,
            ),
            Check(
                "volume_plausible",
                table.bronze,
                f"Rows against the median of up to {HISTORY_MONTHS} months before: shows a cut or doubled extract.",
                _volume(table),
            ),
            Check(
                "schema_matches",
                table.bronze,
                "Columns are those of the months before: none lost, none new that the contract does not know.",
                _schema(table),
            ),
        ]
    return tuple(checks)


def _rows_by_month(warehouse: Warehouse, table: LandingTable, months: MonthRange) -> dict[Month, int]:
    bronze = BRONZE[table.name]
    warehouse.ensure(bronze)
    with warehouse.read(f"count {table.bronze} {months}") as connection:
        found = connection.execute(f"SELECT month, count(*) FROM {Slice(bronze, months)} GROUP BY month").fetchall()
    return dict(found)


def _present(table: LandingTable) -> Evaluate:
    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:  # noqa: ARG001
        rows = _rows_by_month(warehouse, table, months.widen(before=KNOWN_MONTHS))
        return [_present_verdict(month, table, rows) for month in months]

    return evaluate


def _present_verdict(month: Month, table: LandingTable, rows: dict[Month, int]) -> Verdict:
    """A source that never delivers a feature table is told, not warned of month after month; one that stops is."""
    severity: Severity = "ERROR" if table.is_label_source else "WARN"
    numbers = {"rows": rows.get(month, 0)}
    if rows.get(month):
        return Verdict(month, passed=True, summary=f"{rows[month]:,} rows landed", severity=severity, numbers=numbers)
    if table.is_label_source and not any(rows.values()):
        return Verdict(month, passed=False, summary="no rows landed", severity=severity, numbers=numbers)
    if table.is_label_source:
        # A missing file, or an empty one that does not say so, never gets past the reader.
        words = "the source declares a month without discharges; the month before gets no labels"
        return Verdict(month, passed=False, summary=words, severity="WARN", numbers=numbers)
    delivered = any(rows.get(shift(month, -step)) for step in range(1, KNOWN_MONTHS + 1))
    words = "no rows landed" if delivered else f"this source has delivered no {table.name} so far"
    summary = f"{words}; features from it are null"
    return Verdict(month, passed=not delivered, summary=summary, severity=severity, numbers=numbers)


def _volume(table: LandingTable) -> Evaluate:
    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
        rows = _rows_by_month(warehouse, table, months.widen(before=HISTORY_MONTHS))
        return [_volume_verdict(month, rows, settings.quality.max_volume_factor) for month in months]

    return evaluate


def _volume_verdict(month: Month, rows: dict[Month, int], limit: float) -> Verdict:
    before = [rows[past] for step in range(1, HISTORY_MONTHS + 1) if rows.get(past := shift(month, -step))]
    if len(before) < MIN_HISTORY_MONTHS or not rows.get(month):
        words = "no rows to compare" if not rows.get(month) else "too few months before to compare"
        return Verdict(month, passed=True, summary=words, severity="WARN", numbers={"rows": rows.get(month, 0)})
    usual = median(before)
    factor = rows[month] / usual
    few = max(usual, rows[month]) < MIN_USUAL_ROWS
    accepted = "too few rows to judge" if few else f"accepted: {1 / limit:.2f} to {limit:.2f}"
    return Verdict(
        month,
        passed=few or 1 / limit <= factor <= limit,
        summary=f"{factor:.2f} times the usual number of rows ({accepted})",
        severity="WARN",
        numbers={"rows": rows[month], "usual_rows": usual, "factor": round(factor, 4), "limit": limit},
    )


def _schema(table: LandingTable) -> Evaluate:
    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:  # noqa: ARG001
        seen = _columns_by_month(warehouse, table, months.widen(before=HISTORY_MONTHS))
        return [_schema_verdict(month, table, seen) for month in months]

    return evaluate


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a month's rows have: values per contract column, and names of columns that the contract does not know."""

    rows: int
    values: dict[str, int]
    unknown: frozenset[str]


def _columns_by_month(warehouse: Warehouse, table: LandingTable, months: MonthRange) -> dict[Month, _Columns]:
    bronze = BRONZE[table.name]
    warehouse.ensure(bronze)
    filled = ", ".join(f"count(nullif(\"{name}\", ''))" for name in table.column_names)
    sql = f"""
SELECT month, count(*), [{filled}], list_distinct(flatten(list(json_keys(extra)) FILTER (extra IS NOT NULL)))
FROM {Slice(bronze, months)} GROUP BY month"""
    with warehouse.read(f"columns of {table.bronze} {months}") as connection:
        found = connection.execute(sql).fetchall()
    return {
        month: _Columns(rows, dict(zip(table.column_names, values, strict=True)), frozenset(unknown or ()))
        for month, rows, values, unknown in found
    }


def _schema_verdict(month: Month, table: LandingTable, seen: dict[Month, _Columns]) -> Verdict:
    """Fails when the columns are not those of the months before; what was always so is only told."""
    now = seen.get(month)
    if now is None:
        return Verdict(month, passed=True, summary="no rows landed", severity="WARN")
    before = [seen[past] for step in range(1, HISTORY_MONTHS + 1) if (past := shift(month, -step)) in seen]
    rows_before = sum(each.rows for each in before)
    empty = [name for name, values in now.values.items() if not values]
    lost = [
        name
        for name in empty
        if rows_before and sum(each.values[name] for each in before) / rows_before * now.rows >= MIN_EXPECTED_VALUES
    ]
    new = sorted(now.unknown - frozenset().union(*(each.unknown for each in before))) if before else []
    changes = [
        f"{label}: {', '.join(names)}"
        for label, names in (("filled before, now missing or empty", lost), ("new and not in the contract", new))
        if names
    ]
    notes = f"without values: {', '.join(empty)}" if empty else "every column has values"
    return Verdict(
        month,
        passed=not changes,
        summary="; ".join(changes) or notes,
        severity="WARN",
        numbers={
            "contract_version": table.version,
            "empty_columns": len(empty),
            "unknown_columns": len(now.unknown),
            "lost_columns": len(lost),
            "new_columns": len(new),
        },
    )
