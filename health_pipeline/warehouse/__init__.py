"""The warehouse: monthly slices of tables in DuckDB, replaced atomically."""

from health_pipeline.warehouse.slices import Query, Slice, SliceReport
from health_pipeline.warehouse.tables import Column, Table

__all__ = ["Column", "Query", "Slice", "SliceReport", "Table"]
