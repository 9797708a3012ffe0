"""The balance of every table and month: landed = silver + quarantined + deduplicated, counted from what is stored."""

from __future__ import annotations

from dataclasses import dataclass

from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.contracts.silver import key_sql
from health_pipeline.contracts.staging import staged_sql
from health_pipeline.contracts.warehouse_tables import BRONZE, REJECTED_ROWS, SILVER
from health_pipeline.months import Month, MonthRange
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice


@dataclass(frozen=True, slots=True)
class Balance:
    """Rows of a table in a month.

    Attributes:
        landed: rows of bronze.
        silver: rows of silver.
        quarantined: rejected rows of this table.
        deduplicated: landed rows outside quarantine whose key a later row of the month repeats.
        strays: rejected rows that no landed row corresponds to (silver or quarantine are older than bronze).
    """

    month: Month
    landed: int = 0
    silver: int = 0
    quarantined: int = 0
    deduplicated: int = 0
    strays: int = 0

    @property
    def is_even(self) -> bool:
        """Whether every landed row is accounted for."""
        return self.landed == self.silver + self.quarantined + self.deduplicated and self.strays == 0


def balances(warehouse: Warehouse, table: LandingTable, months: MonthRange) -> list[Balance]:
    """Balance of each month, from three stored tables.

    Repeated keys are counted among the bronze rows that have no row in quarantine, so that a row which both silver and
    quarantine took, or neither, upsets the balance.
    """
    warehouse.ensure(BRONZE[table.name], SILVER[table.name], REJECTED_ROWS)
    with warehouse.read(f"balance {table.name} {months}") as connection:
        found = {row[0]: Balance(*row) for row in connection.execute(balance_sql(table, months)).fetchall()}
    return [found.get(month, Balance(month)) for month in months]


def balance_sql(table: LandingTable, months: MonthRange) -> str:
    """A SELECT of the fields of :class:`Balance`, one row for each month that has any rows."""
    bronze, silver, rejected = (
        Slice(stored, months) for stored in (BRONZE[table.name], SILVER[table.name], REJECTED_ROWS)
    )
    return f"""
WITH rejected AS (SELECT * FROM {rejected} WHERE table_name = '{table.name}'),
kept AS (
  SELECT month, hash({key_sql(table)}) AS key_hash
  FROM ({staged_sql(table, bronze)}) AS staged
  ANTI JOIN rejected USING (month, source_file, source_row)
),
repeated AS (SELECT month, count(*) - count(DISTINCT key_hash) AS deduplicated FROM kept GROUP BY month),
landed AS (SELECT month, count(*) AS landed FROM {bronze} GROUP BY month),
refined AS (SELECT month, count(*) AS silver FROM {silver} GROUP BY month),
quarantined AS (
  SELECT rejected.month, count(*) AS quarantined, count(*) FILTER (bronze.source_file IS NULL) AS strays
  FROM rejected LEFT JOIN {bronze} AS bronze
    ON rejected.month = bronze.month AND rejected.source_file = bronze.source_file
    AND rejected.source_row = bronze.source_row AND rejected.row_hash = bronze.row_hash
  GROUP BY rejected.month
)
SELECT month, coalesce(landed, 0), coalesce(silver, 0), coalesce(quarantined, 0), coalesce(deduplicated, 0),
  coalesce(strays, 0)
FROM landed FULL JOIN refined USING (month) FULL JOIN quarantined USING (month) FULL JOIN repeated USING (month)"""
