"""Turns what is due into run requests: each cause once, and a failed request again after a pause.

Belongs here: which assets a stage runs and how often it is tried. Does not belong here: when a stage is due.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)

from health_pipeline.defs.due import SCORED, Due, Stage
from health_pipeline.months import Month, MonthRange, month_key, parse_month

REQUEST_TAG = "health_pipeline/request"
EXTRACTS_TAG = "health_pipeline/extracts"
IMPROVEMENT_TAG = "health_pipeline/improvement"
TRIGGER_TAG = "health_pipeline/trigger"
REASON_TAG = "health_pipeline/reason"
MIRROR = "mirror_history"
"""The job that copies the deployment's history, and what its requests begin with."""
PAUSES = (120.0, 1200.0, 7200.0, 21_600.0, 43_200.0)
"""Seconds before the second and the following tries of a request: six tries within a day, then it is a person's turn.

Dagster starts a run whose process died again within seconds, unless what killed the run (a full disk) keeps it from
that too; then it never will. The second try is soon for the sake of such runs; the later ones outlast a model store or
a database that is away for a night.
"""
LONGEST_RUN_SECONDS = 86_400.0
"""A run of the command line that was killed elsewhere stays STARTED for ever; older ones are not waited for."""
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

STAGES = {
    Stage.EXTRACTS: dg.AssetSelection.groups("bronze", "silver")
    | dg.AssetSelection.assets("gold/features", "gold/cohort_attrition"),
    Stage.LABELS: dg.AssetSelection.assets("gold/labels"),
    Stage.RETRAIN: dg.AssetSelection.groups("models"),
    Stage.IMPROVEMENT: dg.AssetSelection.groups("models", "scoring", "monitoring"),
    Stage.SCORING: dg.AssetSelection.groups("scoring", "monitoring"),
    Stage.PERFORMANCE: dg.AssetSelection.assets("monitoring/performance", "monitoring/visuals"),
}


CHAMPION = dg.AssetKey(["models", "champion"])
_SCORED = frozenset(dg.AssetKey(table.split(".")) for table in SCORED)
DONE_WITH = {
    Stage.LABELS: frozenset({dg.AssetKey(["gold", "labels"])}),
    Stage.RETRAIN: frozenset({CHAMPION}),
    Stage.IMPROVEMENT: _SCORED | {CHAMPION},
    Stage.SCORING: _SCORED,
    Stage.PERFORMANCE: frozenset({dg.AssetKey(["monitoring", "performance"])}),
}
"""Assets after which a stage is no longer due, as ``due`` reads it off what is stored; extracts need all of theirs."""

IMPROVEMENTS = frozenset({Stage.RETRAIN, Stage.IMPROVEMENT, Stage.SCORING})
"""Stages of which one runs at a time."""

TURNS = {Stage.EXTRACTS: EXTRACTS_TAG} | dict.fromkeys(IMPROVEMENTS, IMPROVEMENT_TAG)
"""Tags of which dagster.yaml lets one run at a time, in the order of the requests."""


@dataclass(frozen=True)
class UnderWay:
    """A run that has not ended: the assets and months it makes."""

    keys: frozenset[dg.AssetKey]
    months: MonthRange


def under_way(instance: dg.DagsterInstance, now: float) -> list[UnderWay]:
    """Runs that have not ended, whoever started them.

    Read them **before** the state: a run that ends in between has then stored what the state shows.
    """
    found = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        first, last = (
            run.tags.get(bound, run.tags.get(PARTITION_NAME_TAG))
            for bound in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
        )
        if run.asset_selection and first and last and record.create_timestamp.timestamp() > now - LONGEST_RUN_SECONDS:
            found.append(UnderWay(frozenset(run.asset_selection), MonthRange(parse_month(first), parse_month(last))))
    return found


def requests(
    items: Iterable[Due],
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph[Any],
    *,
    now: float,
    trigger: str,
    busy: Sequence[UnderWay] = (),
    reason: str = "",
) -> Iterator[dg.RunRequest]:
    """A run request for each item that was not tried yet, or whose last try failed long enough ago.

    What a run under way is making is not asked for again, and what has no such month not at all: a file of a month that
    has not closed yet waits, and one request that Dagster cannot take would lose all others of the tick.

    Args:
        items: what is due.
        instance: knows the earlier runs of a request by their tag.
        graph: resolves the assets of a stage.
        now: POSIX seconds.
        trigger: who asks: ``new_files``, ``schedule``, ``drift`` or ``manual``.
        busy: runs under way when the state was read.
        reason: why, in a sentence.
    """
    for item in items:
        keys = STAGES[item.stage].resolve(graph)
        if not _have_month(keys, item.month, graph):
            continue
        if any(keys & run.keys and item.month in run.months for run in busy):
            continue
        attempt = next_attempt(item.key, instance, now)
        if attempt is None:
            continue
        tags = {REQUEST_TAG: item.key, TRIGGER_TAG: trigger}
        if reason:
            tags[REASON_TAG] = reason
        if item.stage in TURNS:
            tags[TURNS[item.stage]] = "true"
        yield dg.RunRequest(
            run_key=f"{item.key}#{attempt}",
            partition_key=month_key(item.month),
            asset_selection=sorted(keys),
            tags=tags,
        )


def _have_month(keys: Iterable[dg.AssetKey], month: Month, graph: BaseAssetGraph[Any]) -> bool:
    """Whether the month is a partition of all these assets."""
    partitions = (graph.get(key).partitions_def for key in keys)
    return all(each is None or each.has_partition_key(month_key(month)) for each in partitions)


def next_attempt(key: str, instance: dg.DagsterInstance, now: float, pauses: Sequence[float] = PAUSES) -> int | None:
    """Number of the try that is due now; None while one runs, has succeeded, or the pause is not over."""
    records = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: key}))
    if not records:
        return 1
    if any(record.dagster_run.status != dg.DagsterRunStatus.FAILURE for record in records):
        return None
    # A run that Dagster itself starts again carries the same tag and counts as a try of its own.
    tries = len(records)
    ended_at = max(record.end_time or 0.0 for record in records)
    # Either way: a run that ended in the future did so before the clock was set back.
    if tries > len(pauses) or abs(now - ended_at) < pauses[tries - 1]:
        return None
    return tries + 1


def retry_after(run: dg.DagsterRun, instance: dg.DagsterInstance, pauses: Sequence[float] = PAUSES) -> float | None:
    """Seconds after which a failed run of a stage, or of the history's copy, is tried again; None when nobody will.

    A run that Dagster starts again (its process died) is tried at once.
    """
    if run.tags.get(WILL_RETRY_TAG) == "true":
        return 0.0
    key = run.tags.get(REQUEST_TAG, "")
    kind = key.partition(":")[0]
    if kind not in {MIRROR, *(stage.value for stage in Stage)}:
        return None
    if kind != MIRROR:
        made = _made_by(run, instance)
        needed = DONE_WITH.get(Stage(kind), run.asset_selection or frozenset())
        if needed and needed <= made:
            return None  # it failed at a check of what it had made; that says the same of it again
        if kind == Stage.IMPROVEMENT and CHAMPION in made:
            return 0.0  # what is left of it is a request of its own (scoring)
    tries = len(instance.get_run_ids(dg.RunsFilter(tags={REQUEST_TAG: key})))
    return pauses[tries - 1] if 0 < tries <= len(pauses) else None


def _made_by(run: dg.DagsterRun, instance: dg.DagsterInstance) -> frozenset[dg.AssetKey]:
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = (entry.dagster_event for entry in entries)
    return frozenset(event.asset_key for event in events if event is not None and event.asset_key is not None)


def is_given_up(key: str, instance: dg.DagsterInstance, pauses: Sequence[float] = PAUSES) -> bool:
    """Whether every try of a request has failed and none is left."""
    runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: key}))
    return len(runs) > len(pauses) and all(run.status == dg.DagsterRunStatus.FAILURE for run in runs)
