"""Turns what is due into run requests: each cause once, and a failed request again after a pause.

Belongs here: which assets a stage runs and how often it is tried. Does not belong here: when a stage is due.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from health_pipeline.defs.due import Due, Stage
from health_pipeline.months import month_key

REQUEST_TAG = "health_pipeline/request"
IMPROVEMENT_TAG = "health_pipeline/improvement"
TRIGGER_TAG = "health_pipeline/trigger"
MAX_ATTEMPTS = 3
PAUSE_SECONDS = 600.0
"""Wait before the second attempt; doubled for the third."""

STAGES = {
    Stage.EXTRACTS: dg.AssetSelection.groups("bronze", "silver")
    | dg.AssetSelection.assets("gold/features", "gold/cohort_attrition"),
    Stage.LABELS: dg.AssetSelection.assets("gold/labels"),
    Stage.IMPROVEMENT: dg.AssetSelection.groups("models", "scoring", "monitoring"),
    Stage.PERFORMANCE: dg.AssetSelection.assets("monitoring/performance", "monitoring/visuals"),
}


def requests(
    items: Iterable[Due], instance: dg.DagsterInstance, graph: BaseAssetGraph[Any], *, now: float, trigger: str
) -> Iterator[dg.RunRequest]:
    """A run request for each item that was not tried yet, or whose last try failed long enough ago.

    Args:
        items: what is due.
        instance: knows the earlier runs of a request by their tag.
        graph: resolves the assets of a stage.
        now: POSIX seconds.
        trigger: who asks: ``new_files``, ``schedule``, ``drift`` or ``manual``.
    """
    for item in items:
        attempt = _next_attempt(item.key, instance, now)
        if attempt is None:
            continue
        tags = {REQUEST_TAG: item.key, TRIGGER_TAG: trigger}
        if item.stage is Stage.IMPROVEMENT:
            tags[IMPROVEMENT_TAG] = "true"
        yield dg.RunRequest(
            run_key=f"{item.key}#{attempt}",
            partition_key=month_key(item.month),
            asset_selection=sorted(STAGES[item.stage].resolve(graph)),
            tags=tags,
        )


def _next_attempt(key: str, instance: dg.DagsterInstance, now: float) -> int | None:
    """Number of the try that is due now; None while one runs, has succeeded, or the pause is not over."""
    records = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: key}))
    if not records:
        return 1
    if any(record.dagster_run.status != dg.DagsterRunStatus.FAILURE for record in records):
        return None
    # A run that Dagster itself starts again carries the same tag and counts as a try of its own.
    tries = len(records)
    ended_at = max(record.end_time or 0.0 for record in records)
    if tries >= MAX_ATTEMPTS or now < ended_at + PAUSE_SECONDS * 2 ** (tries - 1):
        return None
    return tries + 1
