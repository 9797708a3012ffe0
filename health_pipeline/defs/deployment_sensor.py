"""The sensor that deploys: what is decided shall serve, and what is not deployed shall be explained.

Belongs here: when a deployment, a skip report, a recovery or a copy of the history is due. It looks at decisions, runs
and history, not at events, so that whatever was killed is found and asked for again. Does not belong here: what a step
does, and what the history says of a model (``deployment.standing``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from health_pipeline import deployment, notify
from health_pipeline.clock import Clock
from health_pipeline.defs.deployment import DEPLOYMENT_TAG
from health_pipeline.defs.monthly import asset_key
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import MIRROR, REQUEST_TAG, UNFINISHED, is_given_up, next_attempt
from health_pipeline.deployment.history import Event
from health_pipeline.deployment.recovery import Transition, open_transition
from health_pipeline.deployment.standing import Standing, standing
from health_pipeline.months import Month, MonthRange, month_key, parse_month
from health_pipeline.promotion import CHAMPION, CHECKS, Outcome
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

GATES = tuple(check.name for check in CHECKS if check.blocking)
PAUSES = (60.0, 600.0)
"""Seconds before the second and the third try of a deployment that broke off; there is no fourth."""
RECOVERY_PAUSE_SECONDS, LONGEST_RECOVERY_PAUSE_SECONDS = 30.0, 600.0
"""Wait after a recovery that failed, doubled up to the longest: traffic hangs on it, so it is never given up."""


@dataclass(frozen=True)
class Decision:
    """The decision of a month, as it is stored."""

    month: Month
    model_id: str | None
    promotes: bool


@dataclass(frozen=True)
class Wish:
    """A run that should have succeeded by now."""

    job: str
    decision: Decision
    storage_id: int

    @property
    def key(self) -> str:
        """Identity of the request: a decision that is made again is another one."""
        return f"{self.job}:{self.decision.month:%Y-%m}:{self.storage_id}"


def build_sensor(
    settings: Settings, partitions: Partitions, clock: Clock, jobs: Sequence[Any], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """``champion_deployment``."""

    @dg.sensor(
        name="champion_deployment",
        jobs=jobs,
        minimum_interval_seconds=30,
        default_status=status,
        description="The champion in force, its gates passed, shall serve: deploy it, unless it has served or was "
        "refused; report why the newest challenger is not deployed. Recovers what was killed and asks for it again.",
    )
    def champion_deployment(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, now = context.instance, clock().timestamp()
        cursor: dict[str, Any] = {"mirrored": 0, **json.loads(context.cursor or "{}")}
        if instance.get_run_records(dg.RunsFilter(tags={DEPLOYMENT_TAG: "true"}, statuses=UNFINISHED), limit=1):
            return dg.SensorResult(skip_reason="a deployment is under way", cursor=context.cursor)
        events = deployment.history_of(settings, clock).events()
        transition = open_transition(events)
        if transition is not None:
            recovery = _recovery(instance, transition, now)
            reason = None if recovery else "a recovery failed; the next one follows after a pause"
            return dg.SensorResult(run_requests=recovery, skip_reason=reason, cursor=context.cursor)
        wishes = list(_wishes(instance, settings, partitions, events))
        found: list[dg.RunRequest] = []
        for wish in (item for item in wishes if isinstance(item, Wish)):
            attempt = next_attempt(wish.key, instance, now, PAUSES)
            if attempt is not None:
                found.append(_request(wish, attempt))
            elif wish.job == "deploy" and is_given_up(wish.key, instance, PAUSES):
                given_up = notify.templates.deployment_given_up(
                    month=month_key(wish.decision.month), release=str(wish.decision.model_id), tries=len(PAUSES) + 1
                )
                notify.send(given_up, settings, clock)
        if not found:  # a deployment copies its own rows, and has none yet
            found += _copies(instance, events, cursor, partitions, now)
        reasons = [item for item in wishes if isinstance(item, str)]
        return dg.SensorResult(
            run_requests=found,
            skip_reason=None if found else "; ".join(reasons) or "nothing new",
            cursor=json.dumps({"mirrored": cursor["mirrored"]}),
        )

    return champion_deployment


def _request(wish: Wish, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{wish.key}#{attempt}",
        partition_key=month_key(wish.decision.month),
        job_name=wish.job,
        tags={REQUEST_TAG: wish.key},
    )


def _recovery(instance: dg.DagsterInstance, transition: Transition, now: float) -> list[dg.RunRequest]:
    """Another try to end what was left half done, with growing pauses and without an end."""
    key = f"recover:{transition.event.row_hash}"
    records = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: key}))
    tries, ended_at = len(records), max((record.end_time or 0.0 for record in records), default=0.0)
    pause = min(RECOVERY_PAUSE_SECONDS * 2.0 ** max(tries - 1, 0), LONGEST_RECOVERY_PAUSE_SECONDS) if tries else 0.0
    if abs(now - ended_at) < pause:  # either way, as in ``next_attempt``
        return []
    return [dg.RunRequest(run_key=f"{key}#{tries + 1}", job_name="recover_deployment", tags={REQUEST_TAG: key})]


def _copies(
    instance: dg.DagsterInstance, events: Sequence[Event], cursor: dict[str, Any], partitions: Partitions, now: float
) -> Iterator[dg.RunRequest]:
    """Months whose history has rows that are not in the warehouse yet; the cursor goes on when all copies are made."""
    fresh = [event for event in events if event.sequence > cursor["mirrored"]]
    are_made = True
    for month in sorted({event.month for event in fresh} & set(partitions.models.get_partition_keys())):
        last = max(event.sequence for event in fresh if event.month == month)
        key = f"{MIRROR}:{month}:{last}"
        runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: key}))
        if any(run.status == dg.DagsterRunStatus.SUCCESS for run in runs):
            continue
        are_made = False
        attempt = next_attempt(key, instance, now)
        if attempt is not None:
            yield dg.RunRequest(
                run_key=f"{key}#{attempt}", partition_key=month, job_name=MIRROR, tags={REQUEST_TAG: key}
            )
    if are_made:
        cursor["mirrored"] = max((event.sequence for event in events), default=0)


def _wishes(
    instance: dg.DagsterInstance, settings: Settings, partitions: Partitions, events: Sequence[Event]
) -> Iterator[Wish | str]:
    """What the decisions want: the newest one a deployment or a report, and the model in force to serve."""
    decisions = _decisions(instance, settings, partitions)
    if not decisions:
        yield "no champion was decided yet"
        return
    newest, promoting = decisions[-1], next((item for item in reversed(decisions) if item.promotes), None)
    for decision in dict.fromkeys((newest, promoting)):
        if decision is None:
            continue
        month = month_key(decision.month)
        storage_id = _storage_id(instance, month)
        missing, failed = ([], []) if storage_id is None else _gates(instance, decision, storage_id)
        if storage_id is None:
            yield f"{month}: the decision is not recorded yet"
        elif missing:
            yield f"{month}: gates not judged yet: {', '.join(missing[:5])}"
        elif not decision.promotes or failed:
            if decision is newest:
                yield Wish("report_skip", decision, storage_id)
        elif decision.model_id == newest.model_id:
            yield _deployment(Wish("deploy", decision, storage_id), events)


def _deployment(wish: Wish, events: Sequence[Event]) -> Wish | str:
    """The deployment, if the model may still be deployed without a person asking."""
    model_id = str(wish.decision.model_id)
    stands, event = standing(events, wish.decision.month, model_id)
    if stands is Standing.REFUSED and event is not None:
        return f"{model_id} was refused by {event.step}; a person decides"
    return wish if stands is Standing.OPEN else f"{model_id} is {stands}"


def _decisions(instance: dg.DagsterInstance, settings: Settings, partitions: Partitions) -> list[Decision]:
    """Decisions that Dagster knows of, oldest first."""
    stored: Mapping[str, int] | set[str] = instance.get_materialized_partitions(asset_key(CHAMPION))
    months = [parse_month(key) for key in sorted(set(stored) & set(partitions.models.get_partition_keys()))]
    if not months:
        return []
    warehouse = Warehouse.from_settings(settings)
    with warehouse.read("decisions to deploy") as connection:
        rows = connection.execute(
            f"SELECT month, model_id, decision FROM {Slice(CHAMPION, MonthRange(months[0], months[-1]))} ORDER BY month"
        ).fetchall()
    return [Decision(month, model, decision != Outcome.SKIP) for month, model, decision in rows if month in months]


def _storage_id(instance: dg.DagsterInstance, month: str) -> int | None:
    """Newest materialisation of the month's decision."""
    wanted = dg.AssetRecordsFilter(asset_key=asset_key(CHAMPION), asset_partitions=[month])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].storage_id if records else None


def _gates(instance: dg.DagsterInstance, decision: Decision, storage_id: int) -> tuple[list[str], list[str]]:
    """Gates without a verdict on this very decision, and gates that block.

    A row is stored a moment before Dagster records it: until then the verdicts there are those on the row before.
    """
    keys = [dg.AssetCheckKey(asset_key(CHAMPION), name) for name in GATES]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        keys, partition_filter=PartitionKeyFilter(key=month_key(decision.month))
    )
    missing, failed = [], []
    for key in keys:
        record = latest.get(key)
        evaluation = record.evaluation if record is not None else None
        target = evaluation.target_materialization_data if evaluation is not None else None
        said = evaluation.metadata.get("model_id") if evaluation is not None else None
        is_of_another = said is not None and said.value != decision.model_id
        if record is None or evaluation is None or target is None or target.storage_id != storage_id or is_of_another:
            missing.append(key.name)
        elif (
            record.status is not AssetCheckExecutionRecordStatus.SUCCEEDED
            and evaluation.severity is dg.AssetCheckSeverity.ERROR
        ):
            failed.append(key.name)
    return missing, failed
