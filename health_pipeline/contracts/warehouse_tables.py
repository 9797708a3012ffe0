"""Warehouse tables that follow from the landing contract: bronze, silver and quarantine."""

from __future__ import annotations

from collections.abc import Mapping

from health_pipeline.contracts.declarations import IDENTIFIERS, LandingColumn, LandingTable
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.warehouse.tables import Column, Table

MONTH = Column("month", "DATE", "month of the landed file", nullable=False)
PATIENT_KEY = Column("patient_key", "VARCHAR", "keyed hash of the patient id (32 hex digits)", nullable=False)

LINEAGE = (
    Column("source_file", "VARCHAR", "landed file, relative to the landing zone", nullable=False),
    Column("source_row", "BIGINT", "row in the file, from 1, after the header", nullable=False),
    Column("row_hash", "VARCHAR", "MD5 of the row's contract columns and extra", nullable=False),
)

_EVENT_CODE = (
    Column("code_system", "VARCHAR", "coding system, in upper case", nullable=False),
    Column("code", "VARCHAR", "code without its system", nullable=False),
    Column("unit", "VARCHAR", "canonical unit where the code has one, else the unit as landed"),
)

RATIOS = (
    Column("payer_coverage_ratio", "DOUBLE", "payer_paid / allowed; NULL without an allowed amount", unit="ratio"),
    Column("out_of_pocket_ratio", "DOUBLE", "patient_paid / allowed; NULL without an allowed amount", unit="ratio"),
    Column("allowed_to_charge_ratio", "DOUBLE", "allowed / charged; NULL without a charge", unit="ratio"),
)


def _bronze(table: LandingTable) -> Table:
    landed = (Column(column.name, "VARCHAR", column.description, unit=column.unit) for column in table.columns)
    extra = Column("extra", "VARCHAR", "JSON object of the columns that the contract does not know")
    return Table(
        "bronze",
        table.name,
        (MONTH, *landed, *LINEAGE, extra),
        key=("source_file", "source_row"),
        description=f"As landed. {table.description}",
    )


def _silver_column(column: LandingColumn) -> tuple[Column, ...]:
    if column.name in IDENTIFIERS:
        return (PATIENT_KEY,)
    if column.name == "code":
        return _EVENT_CODE
    return (Column(column.name, column.type, column.description, nullable=column.nullable, unit=column.unit),)


def _silver(table: LandingTable) -> Table:
    columns = [MONTH, *(typed for column in table.columns for typed in _silver_column(column))]
    key = [
        typed.name
        for name in table.key
        for column in table.columns
        if column.name == name
        for typed in _silver_column(column)
    ]
    ratios = RATIOS if table.name == "claims" else ()
    return Table(
        "silver",
        table.name,
        (*columns, *ratios),
        key=tuple(key),
        description=f"Typed, deduplicated, pseudonymised. {table.description}",
    )


BRONZE: Mapping[str, Table] = {name: _bronze(table) for name, table in LANDING_TABLES.items()}
SILVER: Mapping[str, Table] = {name: _silver(table) for name, table in LANDING_TABLES.items()}

REJECTED_ROWS = Table(
    "quarantine",
    "rejected_rows",
    (
        MONTH,
        Column("table_name", "VARCHAR", "landing table", nullable=False),
        *LINEAGE,
        Column("rule", "VARCHAR", "first rule that the row breaks", nullable=False),
        Column("reason", "VARCHAR", "every rule that the row breaks, in words; no values", nullable=False),
    ),
    key=("table_name", "source_file", "source_row"),
    description="Landed rows that silver refuses; landed = silver + quarantined + deduplicated.",
)
