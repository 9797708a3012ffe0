"""Materialises a range of months in this process, as Dagster runs on the home's instance.

Assets with different months (extracts, labels, models) cannot share a run; they go in as many runs as there are kinds
of months, upstream first, just as Dagster's backfill daemon does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.utils import make_new_run_id

from health_pipeline.defs.failures import root_cause
from health_pipeline.defs.partitions import clip
from health_pipeline.defs.run_launcher import MACHINE_TAG, this_machine
from health_pipeline.errors import SettingsError
from health_pipeline.months import MonthRange, month_key
from health_pipeline.settings import PREFIX

Listener = Callable[[EventLogEntry], None]

SELECT_HELP = "for example: gold/features,gold/labels or group:models or +models/champion (with all that it rests on)"
BARE_KEY = re.compile(r"(\d*\+)?([\w/]+)(\+\d*)?")
NOT_BY_DEFAULT = {"deployment"}
"""Groups that run only when asked for: sensors and people decide about them."""


@dataclass(frozen=True)
class PlannedRun:
    """Assets of one kind of months, and the part of the asked range that exists for them."""

    keys: tuple[dg.AssetKey, ...]
    months: MonthRange


@dataclass
class RunOutcome:
    """What became of a planned run."""

    run_id: str
    planned: PlannedRun
    success: bool
    errors: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)

    def record(self, entry: EventLogEntry) -> None:
        """Note failures from the run's events."""
        event = entry.dagster_event
        if event is None:
            return
        if event.is_step_failure:
            self.errors.append(f"{event.step_key}: {root_cause(event)}")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                name = f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
                self.failed_checks.append(f"{evaluation.severity.value} {name} {evaluation.partition or ''}".strip())


def plan_runs(defs: dg.Definitions, months: MonthRange, select: str | None = None) -> list[PlannedRun]:
    """Runs that materialise ``months`` of the selected assets, in order.

    Raises:
        SettingsError: the selection names no asset, or no selected asset has any of the months.
    """
    graph = defs.resolve_asset_graph()
    selected = _select(graph, select)
    planned: list[PlannedRun] = []
    for level in graph.toposorted_asset_keys_by_level:
        for key in sorted(level):
            partitions = graph.get(key).partitions_def
            if key not in selected or not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
                continue
            existing = clip(partitions, months)
            if existing is None:
                continue
            _append(planned, graph, key, existing)
    if not planned:
        raise SettingsError(
            f"no selected asset has months in {months}",
            where=f"{PREFIX}START_MONTH, {PREFIX}END_MONTH",
            remedy="ask for months between them, or widen them",
        )
    return planned


def _append(planned: list[PlannedRun], graph: BaseAssetGraph[Any], key: dg.AssetKey, months: MonthRange) -> None:
    """Put ``key`` into the first run that has its months and comes after all its parents."""
    parents = graph.get(key).parent_keys - {key}
    earliest = max((index for index, run in enumerate(planned) if parents & set(run.keys)), default=0)
    for index in range(earliest, len(planned)):
        if planned[index].months == months:
            planned[index] = PlannedRun((*planned[index].keys, key), months)
            return
    planned.append(PlannedRun((key,), months))


def _select(graph: BaseAssetGraph[Any], select: str | None) -> set[dg.AssetKey]:
    if select is None:
        return {key for key in graph.materializable_asset_keys if graph.get(key).group_name not in NOT_BY_DEFAULT}
    try:
        chosen = {key for part in select.split(",") for key in _named_by(graph, part.strip())}
    except Exception as error:  # noqa: BLE001  # the parser's errors share no base class
        raise SettingsError(
            f"cannot use the selection {select!r}: {str(error).splitlines()[0]}", where="--select", remedy=SELECT_HELP
        ) from None
    if not chosen:
        raise SettingsError(
            f"the selection {select!r} names no asset",
            where="--select",
            remedy=SELECT_HELP,
        )
    return chosen


def _named_by(graph: BaseAssetGraph[Any], part: str) -> set[dg.AssetKey]:
    """Assets of one part of a selection.

    What a leading ``+`` asks for includes the tables that blocking checks hold the assets against: features are held
    against the attrition, silver against the quarantine. Without these nothing in front of them passes.
    """
    named = set(dg.AssetSelection.from_string(_quoted(part)).resolve(graph))
    while part.startswith("+"):
        checks = [graph.get(check) for check in graph.get_check_keys_for_assets(named)]
        read = {key for check in checks if check.blocking for key in check.parent_entity_keys} - named
        if not read:
            break
        named |= dg.AssetSelection.assets(*read).upstream().resolve(graph)
    return named


def _quoted(part: str) -> str:
    """One part of a selection in the language of the UI.

    Beside a bare key Dagster still reads ``+`` as one layer; in the UI it stands for all of them.
    """
    found = BARE_KEY.fullmatch(part)
    return part if found is None else f'{found[1] or ""}key:"{found[2]}"{found[3] or ""}'


def execute(
    defs: dg.Definitions,
    planned: PlannedRun,
    instance: dg.DagsterInstance,
    *,
    listeners: Iterable[Listener] = (),
    tags: dict[str, str] | None = None,
) -> RunOutcome:
    """Run one planned run to its end; failures are returned, not raised."""
    job = defs.resolve_implicit_global_asset_job_def()
    run_id = make_new_run_id()
    outcome = RunOutcome(run_id, planned, success=False)
    for listener in (*listeners, outcome.record):
        instance.add_event_listener(run_id, listener)
    result = job.execute_in_process(
        run_id=run_id,
        instance=instance,
        asset_selection=list(planned.keys),
        raise_on_error=False,
        # The events go to the instance, where the UI shows them; the terminal shows progress.
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            ASSET_PARTITION_RANGE_START_TAG: month_key(planned.months.first),
            ASSET_PARTITION_RANGE_END_TAG: month_key(planned.months.last),
            MACHINE_TAG: this_machine(),
            **(tags or {}),
        },
    )
    outcome.success = result.success
    return outcome
