"""Contracts: what a landed table must look like, declared once."""

from health_pipeline.contracts.declarations import LandingColumn, LandingTable, Rule
from health_pipeline.contracts.quarantine import rejected_query
from health_pipeline.contracts.silver import silver_query
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.contracts.warehouse_tables import BRONZE, REJECTED_ROWS, SILVER

__all__ = [
    "BRONZE",
    "LANDING_TABLES",
    "REJECTED_ROWS",
    "SILVER",
    "LandingColumn",
    "LandingTable",
    "Rule",
    "rejected_query",
    "silver_query",
]
