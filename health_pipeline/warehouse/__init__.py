"""The warehouse: monthly slices of tables in DuckDB, replaced atomically."""

from typing import TYPE_CHECKING, Any

from health_pipeline.warehouse.slices import Query, Slice, SliceReport
from health_pipeline.warehouse.store import Warehouse
from health_pipeline.warehouse.tables import Column, Table

if TYPE_CHECKING:
    from health_pipeline.warehouse.io_manager import MonthlyTableIOManager, build_io_manager

__all__ = [
    "Column",
    "MonthlyTableIOManager",
    "Query",
    "Slice",
    "SliceReport",
    "Table",
    "Warehouse",
    "build_io_manager",
]


def __getattr__(name: str) -> Any:
    """The IO manager imports Dagster, so it is loaded only where it is asked for."""
    if name in {"MonthlyTableIOManager", "build_io_manager"}:
        from health_pipeline.warehouse import io_manager

        return getattr(io_manager, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
