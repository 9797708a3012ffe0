"""Reads the episode of a failed check off the instance: failures of the same check that came before it.

Belongs here: which evaluations make an episode. Does not belong here: who is told what (``notify``).
"""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from health_pipeline.months import month_key, parse_month, shift
from health_pipeline.notify.episodes import Failure

SUBJECTS = "subjects"
"""Metadata of an evaluation that names what failed; a check without it has no episodes."""

JUDGED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
LONGEST_MONTHS = 24
SEPARATOR = "; "


def failure_of(evaluation: AssetCheckEvaluation) -> Failure:
    """What a failed evaluation says."""
    named = evaluation.metadata.get(SUBJECTS)
    subjects = frozenset(str(named.value).split(SEPARATOR)) if named is not None and named.value else frozenset()
    return Failure(evaluation.partition or "", evaluation.severity.value, subjects)


def episode_before(instance: dg.DagsterInstance, entry: EventLogEntry) -> list[Failure]:
    """Failures of the same check before an evaluation, newest first, back to the last one that passed.

    Args:
        instance: with the evaluations.
        entry: event of a failed evaluation.
    """
    return list(_before(instance, entry))


def _before(instance: dg.DagsterInstance, entry: EventLogEntry) -> Iterator[Failure]:
    evaluation = entry.get_dagster_event().asset_check_evaluation_data
    if evaluation.partition is None or SUBJECTS not in evaluation.metadata:
        return
    key = dg.AssetCheckKey(evaluation.asset_key, evaluation.check_name)
    month = parse_month(evaluation.partition)
    for back in range(LONGEST_MONTHS):
        partition = month_key(shift(month, -back))
        history = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=10, status=JUDGED, partition_filter=PartitionKeyFilter(key=partition)
        )
        # Of its own month only what was evaluated before it; of earlier months what holds by now.
        known = (each for each in history if each.event and (back or each.event.timestamp < entry.timestamp))
        found = next((each.evaluation for each in known if isinstance(each.evaluation, AssetCheckEvaluation)), None)
        if found is None:
            if back:
                return
            continue
        if found.passed:
            return
        yield failure_of(found)
