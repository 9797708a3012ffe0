"""The stock way: dagster-duckdb-pandas, a run for each month, the same SQL over the frames that it loads."""

from __future__ import annotations

import time
from typing import Any

import duckdb

from benchmarks.warehouse.landing import Scale
from benchmarks.warehouse.steps import Step, steps
from health_pipeline.months import MonthRange, month_key, months_between, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice


def run_months(settings: Settings, scale: Scale, count: int) -> dict[str, Any]:
    """Seconds of the runs of the last ``count`` months whose labels are closed; history is copied beforehand."""
    import dagster as dg
    from dagster_duckdb_pandas import DuckDBPandasIOManager

    from health_pipeline.defs.instance import open_instance

    last = shift(scale.range.last, -1)
    months = MonthRange(shift(last, 1 - count), last)
    file = settings.home / "stock.duckdb"
    settings.home.mkdir(parents=True, exist_ok=True)
    filled = _fill(settings, scale, str(file))
    manager = DuckDBPandasIOManager(database=str(file))
    with open_instance(settings) as instance:
        begun, cpu = time.perf_counter(), time.process_time()
        for month in months:
            assets = [_asset(step, settings) for step in steps(settings, MonthRange(month, month))]
            result = dg.materialize(
                assets,
                instance=instance,
                partition_key=month_key(month),
                resources={"io_manager": manager},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            assert result.success
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"stock_months": count, "stock_wall": seconds, "stock_cpu": cpu, "history_seconds": filled}


def _fill(settings: Settings, scale: Scale, file: str) -> float:
    """Copy the tables of the ``manager`` way that lies beside this home."""
    begun = time.perf_counter()
    with duckdb.connect(file) as connection:
        connection.execute(f"ATTACH '{settings.home.parent / 'manager' / 'warehouse.duckdb'}' AS filled (READ_ONLY)")
        for step in steps(settings, scale.range):
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{step.table.schema}"')
            connection.execute(f"CREATE TABLE {step.table.qualified} AS FROM filled.{step.table.qualified}")
    return time.perf_counter() - begun


def _asset(step: Step, settings: Settings) -> Any:
    """An asset that gets its inputs as frames, runs the same SQL over them and returns a frame."""
    import dagster as dg
    import pandas as pd

    month = step.months.last

    def compute(**frames):
        with duckdb.connect(config={"memory_limit": "4GB"}) as connection:
            for given in step.inputs:
                # Frames forget dates and booleans; the SQL needs the declared types.
                columns = ", ".join(
                    f'"{column.name}"::{column.type} AS "{column.name}"' for column in given.table.columns
                )
                connection.register(f"frame_{given.table.schema}_{given.table.name}", frames[_name(given)])
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{given.table.schema}"')
                connection.execute(
                    f"CREATE VIEW {given.table.qualified} AS "
                    f"SELECT {columns} FROM frame_{given.table.schema}_{given.table.name}"
                )
            query = step.query()
            names = ", ".join(f'"{name}"' for name in step.table.column_names)
            return connection.execute(f"SELECT {names} FROM ({query.sql})", dict(query.parameters) or None).df()

    return dg.asset(
        compute,
        key=[step.table.schema, step.table.name],
        ins={
            _name(given): dg.AssetIn(
                key=[given.table.schema, given.table.name],
                dagster_type=pd.DataFrame,
                partition_mapping=dg.TimeWindowPartitionMapping(
                    start_offset=-months_between(given.months.first, month),
                    end_offset=months_between(month, given.months.last),
                    allow_nonexistent_upstream_partitions=True,
                ),
            )
            for given in step.inputs
        },
        partitions_def=dg.MonthlyPartitionsDefinition(
            month_key(settings.months.first), end_date=month_key(settings.months.end)
        ),
        metadata={"partition_expr": "month"},
    )


def _name(given: Slice) -> str:
    return f"{given.table.schema}_{given.table.name}"
