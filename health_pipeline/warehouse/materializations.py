"""What Dagster records of a replaced range: one materialisation per month, as if months had run one by one.

Dagster 1.13 gives all partitions of a range run the same data version. Here each month carries its own content hash,
so that a restated month shows its downstream months as stale, and a month that came out as before does not.

Provenance (code version, versions of the inputs) is built by Dagster's own code. Dagster would then add
materialisations of its own with one version for all; taking the asset key off the finished output keeps it from that.
There is no public way to say either in Dagster 1.13; tests pin the behaviour (one event per month, its version,
staleness), so an upgrade that changes it is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dagster import AssetKey, AssetMaterialization, DataVersion, MetadataValue, Output, OutputContext
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.data_version import DATA_VERSION_TAG, get_input_event_pointer_tag
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.plan.execute_step import _get_output_asset_events
from dagster._utils.warnings import disable_dagster_warnings

from health_pipeline.months import month_key
from health_pipeline.warehouse.slices import SliceReport

if TYPE_CHECKING:
    from dagster._core.execution.context.system import StepExecutionContext


def record_months(context: OutputContext, reports: Sequence[SliceReport]) -> Iterator[DagsterEvent]:
    """Log the materialisation of each month with its row count, content hash and data version."""
    step, asset_key = context.step_context, context.asset_key
    with disable_dagster_warnings():  # a data version given by the output is beta
        output = Output(None, metadata=dict(context.output_metadata), data_version=DataVersion("replaced per month"))
    drafts = list(
        _get_output_asset_events(
            asset_key=asset_key,
            asset_partitions=[month_key(report.months.first) for report in reports],
            output=output,
            output_def=step.op_def.output_def_named(context.name),
            io_manager_metadata={},
            step_context=step,
            execution_type=AssetExecutionType.MATERIALIZATION,
        )
    )
    reads_itself = asset_key in step.job_def.asset_layer.get(asset_key).parent_keys
    batch = f"{step.run_id}-{step.step.key}"
    for position, (draft, report) in enumerate(zip(drafts, reports, strict=True), start=1):
        tags = {**(draft.tags or {}), DATA_VERSION_TAG: report.content_hash}
        if reads_itself and position > 1:
            tags[get_input_event_pointer_tag(asset_key)] = _newest_event(step, asset_key)
        event = AssetMaterialization(
            asset_key=asset_key,
            partition=draft.partition,
            metadata={
                **draft.metadata,
                "dagster/partition_row_count": MetadataValue.int(report.rows),
                "content_hash": MetadataValue.text(report.content_hash),
            },
            tags=tags,
        )
        # Dagster may hold a batch back; the events of a table that reads itself have to be stored one after another.
        together = None if reads_itself else DagsterEventBatchMetadata(batch, position == len(reports))
        yield DagsterEvent.asset_materialization(step, event, together)
    context._asset_key = None


def _newest_event(step: StepExecutionContext, asset_key: AssetKey) -> str:
    """Storage id of the newest materialisation: month M of a table that reads itself has read M-1 of this very run."""
    record = next(iter(step.instance.get_asset_records([asset_key])))
    return str(record.asset_entry.last_materialization_storage_id)
