"""Binds the checks of the rooms to Dagster: one step per table, one evaluation per check and month.

Belongs here: how a verdict becomes an asset check evaluation. Does not belong here: what is checked.

Dagster 1.13 gives a range run no way to return partition-scoped check results: the row of each month would stay at
PLANNED. The step therefore emits the evaluation events itself, as a single-month run would.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.events import DagsterEvent
from dagster._core.instance import RUNLESS_JOB_NAME
from dagster._core.utils import make_new_run_id

from health_pipeline.defs.partitions import range_of
from health_pipeline.months import MonthRange, month_key
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Verdict
from health_pipeline.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """A check that judges by the records of the instance instead of by the rows of the warehouse; it never blocks."""

    name: str
    table: str
    description: str
    evaluate: Callable[[dg.DagsterInstance, MonthRange], Sequence[Verdict]]
    blocking: bool = False
    reads: tuple[str, ...] = ()


def asset_checks(
    checks: Sequence[Check | RecordCheck], partitions: dict[dg.AssetKey, dg.PartitionsDefinition], settings: Settings
) -> list[dg.AssetChecksDefinition]:
    """One multi-check definition per table.

    Args:
        checks: checks of all rooms.
        partitions: months of each guarded asset.
        settings: handed to each check.
    """
    ordered = sorted(checks, key=lambda check: check.table)
    return [
        _table_checks(list(group), partitions[_key(table)], settings)
        for table, group in groupby(ordered, key=lambda check: check.table)
    ]


def _key(table: str) -> dg.AssetKey:
    return dg.AssetKey(table.split("."))


def report(instance: dg.DagsterInstance, check: str, table: str, verdict: Verdict) -> None:
    """Record a verdict outside of any run.

    Dagster keeps one evaluation for each check, month and run. What is reported without a run shares one id, so a month
    could be judged only once; the event therefore carries an id of its own.
    """
    key = _key(table)
    targets = _materializations(instance, key, MonthRange(verdict.month, verdict.month))
    event = DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name=RUNLESS_JOB_NAME,
        event_specific_data=_evaluation(check, key, verdict, targets, blocking=False),
    )
    instance.report_dagster_event(event, make_new_run_id())


def _table_checks(
    checks: Sequence[Check | RecordCheck], partitions: dg.PartitionsDefinition, settings: Settings
) -> dg.AssetChecksDefinition:
    by_name = {check.name: check for check in checks}
    key = _key(checks[0].table)
    with warnings.catch_warnings():
        # Partitioned checks are marked as preview in Dagster 1.13; they are what scopes a gate to its month.
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(
                name=check.name,
                asset=key,
                description=check.description,
                blocking=check.blocking,
                additional_deps=[_key(table) for table in check.reads],
                partitions_def=partitions,
            )
            for check in checks
        ]

    @dg.multi_asset_check(name=f"check_{'_'.join(key.path)}", specs=specs, can_subset=True)
    def evaluate(context: dg.AssetCheckExecutionContext) -> Iterator[object]:
        months = range_of(context)
        targets = _materializations(context.instance, key, months)
        warehouse = Warehouse.from_settings(settings)
        for spec in specs:
            if spec.key not in context.selected_asset_check_keys:
                continue
            check = by_name[spec.name]
            if isinstance(check, RecordCheck):
                verdicts = check.evaluate(context.instance, months)
            else:
                verdicts = check.evaluate(warehouse, months, settings)
            _refuse_gaps(check, verdicts, months)
            yield dg.Output(None, output_name=spec.get_python_identifier())
            for verdict in verdicts:
                yield _evaluation(check.name, key, verdict, targets, blocking=check.blocking)

    return evaluate


def _refuse_gaps(check: Check | RecordCheck, verdicts: Sequence[Verdict], months: MonthRange) -> None:
    if [verdict.month for verdict in verdicts] != list(months):
        raise dg.Failure(f"check {check.name} of {check.table} gave no verdict for every month of {months}")


def _evaluation(
    check: str,
    key: dg.AssetKey,
    verdict: Verdict,
    targets: dict[str, AssetCheckEvaluationTargetMaterializationData],
    *,
    blocking: bool,
) -> AssetCheckEvaluation:
    partition = month_key(verdict.month)
    return AssetCheckEvaluation(
        check_name=check,
        asset_key=key,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity(verdict.severity),
        description=verdict.summary,
        metadata={name: value for name, value in verdict.numbers.items() if value is not None},
        blocking=blocking,
        partition=partition,
        target_materialization_data=targets.get(partition),
    )


def _materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, months: MonthRange
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """Latest materialisation of each month, to which an evaluation refers."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=months.keys()), limit=len(months) * 2
    ).records
    latest: dict[str, AssetCheckEvaluationTargetMaterializationData] = {}
    for record in records:
        partition = record.partition_key
        if partition is not None and partition not in latest:
            latest[partition] = AssetCheckEvaluationTargetMaterializationData(
                run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
            )
    return latest
