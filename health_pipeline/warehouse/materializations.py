"""What Dagster records of a replaced range: one materialisation per month, as if months had run one by one.

Dagster 1.13 gives all partitions of a range run the same data version. Here each month carries its own content hash,
so that a restated month shows its downstream months as stale, and a month that came out as before does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dagster import AssetMaterialization, DataVersion, MetadataValue, Output, OutputContext
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution.plan.execute_step import _get_output_asset_events

from health_pipeline.months import month_key
from health_pipeline.warehouse.slices import SliceReport


def record_months(context: OutputContext, reports: Sequence[SliceReport]) -> Iterator[DagsterEvent]:
    """Log the materialisation of each month with its row count, content hash and data version.

    Provenance (code version, versions of the inputs) is built by Dagster's own code; only the data version differs
    from month to month. Dagster would then add materialisations of its own with one version for all: taking the asset
    key off the finished output keeps it from that. There is no public way to say either in Dagster 1.13; tests pin the
    behaviour (one event per month, its version, staleness), so an upgrade that changes it is noticed.
    """
    step, asset_key = context.step_context, context.asset_key
    by_key = {month_key(report.months.first): report for report in reports}
    template = Output(None, metadata=dict(context.output_metadata), data_version=DataVersion("replaced per month"))
    drafts = _get_output_asset_events(
        asset_key=asset_key,
        asset_partitions=list(by_key),
        output=template,
        output_def=step.op_def.output_def_named(context.name),
        io_manager_metadata={},
        step_context=step,
        execution_type=AssetExecutionType.MATERIALIZATION,
    )
    batch = generate_event_batch_id()
    last = reports[-1]
    for draft in list(drafts):
        report = by_key[str(draft.partition)]
        event = AssetMaterialization(
            asset_key=asset_key,
            partition=draft.partition,
            metadata={
                **draft.metadata,
                "dagster/partition_row_count": MetadataValue.int(report.rows),
                "content_hash": MetadataValue.text(report.content_hash),
            },
            tags={**(draft.tags or {}), DATA_VERSION_TAG: report.content_hash},
        )
        yield DagsterEvent.asset_materialization(step, event, DagsterEventBatchMetadata(batch, report is last))
    context._asset_key = None
