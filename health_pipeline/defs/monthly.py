"""The factory of every monthly table asset.

Belongs here: what all table assets share (partitions, windows, range runs, IO manager, metadata). Does not belong here:
any particular table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from health_pipeline.defs.partitions import range_of, window
from health_pipeline.logs import log_context, timed
from health_pipeline.months import MonthRange
from health_pipeline.warehouse import Query, Slice, Table

if TYPE_CHECKING:
    import pyarrow as pa

OWNERS = ["team:clinical-ml"]

Rows: TypeAlias = "Query | pa.Table"
Compute = Callable[[dg.AssetExecutionContext, MonthRange, Mapping[str, Slice]], Rows]


@dataclass(frozen=True)
class Input:
    """An upstream table and the months of it that month M reads: from M - ``before`` to M + ``after``."""

    table: Table
    before: int = 0
    after: int = 0


def asset_key(table: Table) -> dg.AssetKey:
    """``schema/name``."""
    return dg.AssetKey([table.schema, table.name])


def monthly_asset(
    table: Table,
    compute: Compute,
    *,
    partitions: dg.PartitionsDefinition,
    kinds: set[str],
    inputs: Mapping[str, Input] | None = None,
    group: str | None = None,
    code_version: str = "1",
    retry: dg.RetryPolicy | None = None,
    deps: Sequence[dg.AssetDep] = (),
    resources: set[str] | None = None,
) -> dg.AssetsDefinition:
    """An asset that fills ``table`` for a whole range of months in one go.

    Args:
        table: declaration; gives key, columns and description.
        compute: called once per run with the months to produce and the input slices.
        partitions: months of the asset.
        kinds: tags shown in the UI.
        inputs: upstream tables by the name under which ``compute`` gets their slices.
        group: asset group; the table's schema by default.
        code_version: changes when the meaning of the rows changes, so that the UI shows them as stale.
        retry: policy for steps that depend on the outside world.
        deps: upstream assets whose rows are not read through the warehouse.
        resources: keys of resources that ``compute`` takes from the context.
    """
    inputs = dict(inputs or {})

    @dg.asset(
        key=asset_key(table),
        ins={
            name: dg.AssetIn(
                key=asset_key(given.table),
                partition_mapping=window(given.before, given.after),
            )
            for name, given in inputs.items()
        },
        deps=deps,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group or table.schema,
        kinds=kinds,
        owners=OWNERS,
        description=table.description,
        code_version=code_version,
        retry_policy=retry,
        required_resource_keys=resources,
        io_manager_key="io_manager",
        metadata={
            "dagster/column_schema": dg.TableSchema(
                columns=[
                    dg.TableColumn(
                        column.name,
                        column.type,
                        description=f"{column.description} [{column.unit}]" if column.unit else column.description,
                        constraints=dg.TableColumnConstraints(nullable=column.nullable),
                    )
                    for column in table.columns
                ]
            ),
            "dagster/table_name": table.qualified,
            "partition_expr": table.partition,
        },
    )
    def build(context: dg.AssetExecutionContext, **slices: Any) -> Any:
        months = range_of(context)
        with (
            log_context(run_id=context.run.run_id, asset=table.qualified, months=str(months)),
            timed(table.qualified) as found,
        ):
            found["months"] = len(months)
            return compute(context, months, slices)

    return build
