"""Checks of what landed (bronze): is the month there, is there about as much as before, are its columns the contract's?

The label source fails a month that has no rows; a feature source only warns, since its features then are null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
                "Columns of the contract that are missing or wholly empty, and columns that it does not know.",
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
        rows = _rows_by_month(warehouse, table, months)
        severity: Severity = "ERROR" if table.is_label_source else "WARN"
        absent = "no rows landed" if table.is_label_source else "no rows landed; features from this source are null"
        return [
            Verdict(
                month,
                passed=rows.get(month, 0) > 0,
                summary=f"{rows[month]:,} rows landed" if rows.get(month) else absent,
                severity=severity,
                numbers={"rows": rows.get(month, 0)},
            )
            for month in months
        ]

    return evaluate


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
    return Verdict(
        month,
        passed=1 / limit <= factor <= limit,
        summary=f"{factor:.2f} times the usual number of rows (accepted: {1 / limit:.2f} to {limit:.2f})",
        severity="WARN",
        numbers={"rows": rows[month], "usual_rows": usual, "factor": round(factor, 4), "limit": limit},
    )


def _schema(table: LandingTable) -> Evaluate:
    def evaluate(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:  # noqa: ARG001
        bronze = BRONZE[table.name]
        warehouse.ensure(bronze)
        filled = ", ".join(f'count("{name}") > 0' for name in table.column_names)
        with warehouse.read(f"schema of {table.bronze} {months}") as connection:
            found = connection.execute(
                f"""
                SELECT month, [{filled}], list_distinct(flatten(list(json_keys(extra)) FILTER (extra IS NOT NULL)))
                FROM {Slice(bronze, months)} GROUP BY month
                """
            ).fetchall()
        by_month = {month: (present, unknown) for month, present, unknown in found}
        return [_schema_verdict(month, table, *by_month.get(month, (None, None))) for month in months]

    return evaluate


def _schema_verdict(month: Month, table: LandingTable, filled: list[bool] | None, unknown: list[str] | None) -> Verdict:
    if filled is None:
        return Verdict(month, passed=True, summary="no rows landed", severity="WARN")
    empty = [name for name, has_values in zip(table.column_names, filled, strict=True) if not has_values]
    surplus = sorted(unknown or ())
    words = [
        f"{label}: {', '.join(names)}"
        for label, names in (("missing or empty", empty), ("not in the contract", surplus))
        if names
    ]
    return Verdict(
        month,
        passed=not words,
        summary="; ".join(words) or "columns are those of the contract",
        severity="WARN",
        numbers={"contract_version": table.version, "empty_columns": len(empty), "unknown_columns": len(surplus)},
    )
