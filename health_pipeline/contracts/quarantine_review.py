"""Looking into quarantine: which rules hold rows back, and which months would gain from another try.

Counts, files, row numbers and rules are shown, never a value: who may see the rows opens the landed file there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from health_pipeline.contracts.staging import staged_sql
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.contracts.warehouse_tables import BRONZE, REJECTED_ROWS
from health_pipeline.errors import LandingError
from health_pipeline.months import Month, MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice

SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class RejectedGroup:
    """Rows of one file that break the same rule first.

    Attributes:
        reason: the rule in words; "the rule is no longer in the contract" when it was taken out since.
        rows: how many.
        source_rows: numbers of the first of them in the file.
    """

    month: Month
    table: str
    rule: str
    reason: str
    rows: int
    source_file: str
    source_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """What another run of a month would change for one table.

    Attributes:
        rejected_now: rows in quarantine.
        rejected_then: rows that today's rules would refuse in today's file; None when it cannot be read.
        file_changed: the landed file is not the one that bronze was made from.
        is_due: running the month again changes bronze, silver or quarantine.
        fault: why the file cannot be read; the month cannot be run then.
    """

    month: Month
    table: str
    rejected_now: int
    rejected_then: int | None
    file_changed: bool
    is_due: bool
    fault: str | None = None


def list_rejected(warehouse: Warehouse, months: MonthRange, table: str | None = None) -> list[RejectedGroup]:
    """Groups of rejected rows, by month, table, file and rule; the largest first within a month.

    Args:
        warehouse: where quarantine lies.
        months: landed months.
        table: only this landing table.
    """
    warehouse.ensure(REJECTED_ROWS)
    condition = f"WHERE table_name = '{LANDING_TABLES[table].name}'" if table else ""
    sql = f"""
SELECT month, table_name, rule, count(*) AS rows, source_file, list(source_row ORDER BY source_row)[:{SHOWN_ROWS}]
FROM {Slice(REJECTED_ROWS, months)} {condition}
GROUP BY month, table_name, source_file, rule
ORDER BY month, rows DESC, table_name, source_file, rule"""
    with warehouse.read(f"list quarantine {months}") as connection:
        found = connection.execute(sql).fetchall()
    reasons = {(name, rule.name): rule.reason for name, each in LANDING_TABLES.items() for rule in each.all_rules}
    gone = "the rule is no longer in the contract"
    return [
        RejectedGroup(month, name, rule, reasons.get((name, rule), gone), rows, file, tuple(numbers))
        for month, name, rule, rows, file, numbers in found
    ]


def retries(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Retry]:
    """For each month and table with rows in quarantine: would today's file and rules give anything else?

    Reads the landed files and runs the rules on them; writes nothing.
    """
    stored = _stored(warehouse, months)
    remote = object_storage.is_remote(settings.landing_uri)
    found = []
    with object_storage.reader(remote=remote) as connection:
        for (month, name), (rejected, bronze_hash, rejected_hash) in sorted(stored.items()):
            try:
                landed = bronze_query(name, MonthRange(month, month), settings)
            except LandingError as error:
                found.append(Retry(month, name, rejected, None, file_changed=True, is_due=False, fault=error.what))
                continue
            offered = connection.execute(_offered_sql(name, landed.sql)).fetchone()
            landed_hash, then, then_hash = offered or (0, 0, 0)
            file_changed = landed_hash != bronze_hash
            due = file_changed or then_hash != rejected_hash
            found.append(Retry(month, name, rejected, then, file_changed=file_changed, is_due=due))
    return found


def months_to_run(found: Sequence[Retry]) -> list[Month]:
    """Months that are worth another run, in order."""
    return sorted({retry.month for retry in found if retry.is_due})


_ROW = "hash(source_file, source_row, row_hash)"
_REFUSAL = "hash(source_file, source_row, row_hash, {rule})"


def _offered_sql(name: str, landed: str) -> str:
    return f"""
SELECT coalesce(bit_xor({_ROW}), 0), count(*) FILTER (failed_rule IS NOT NULL),
  coalesce(bit_xor({_REFUSAL.format(rule="failed_rule")}) FILTER (failed_rule IS NOT NULL), 0)
FROM ({staged_sql(LANDING_TABLES[name], f"({landed})")}) AS staged"""


def _stored(warehouse: Warehouse, months: MonthRange) -> dict[tuple[Month, str], tuple[int, int, int]]:
    """Rejected rows, hash of bronze and hash of the refusals, by month and table that has any in quarantine."""
    warehouse.ensure(REJECTED_ROWS, *BRONZE.values())
    bronze = " UNION ALL ".join(
        f"SELECT month, '{name}' AS table_name, bit_xor({_ROW}) AS landed FROM {Slice(table, months)} GROUP BY month"
        for name, table in BRONZE.items()
    )
    sql = f"""
SELECT month, table_name, count(*), coalesce(any_value(landed), 0), bit_xor({_REFUSAL.format(rule="rule")})
FROM {Slice(REJECTED_ROWS, months)} LEFT JOIN ({bronze}) USING (month, table_name)
GROUP BY month, table_name"""
    with warehouse.read(f"review quarantine {months}") as connection:
        return {
            (month, name): (rows, landed, refused)
            for month, name, rows, landed, refused in connection.execute(sql).fetchall()
        }
