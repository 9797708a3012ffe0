"""The way back: after a failed step, after a kill in the middle, and by hand.

Traffic first, then the alias, then proof, and a row about it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from health_pipeline.deployment.history import Event
from health_pipeline.deployment.registry import CHALLENGER, CHAMPION, PREVIOUS
from health_pipeline.deployment.target import Serving
from health_pipeline.errors import DeploymentError
from health_pipeline.months import Month, month_key, parse_month
from health_pipeline.notify import templates

if TYPE_CHECKING:
    from health_pipeline.deployment.tools import Tools

WAYS_BACK = frozenset({"rollback", "recovery"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Transition:
    """A change of traffic that nobody has ended.

    Attributes:
        event: what began it.
        release: release that must serve when it is ended by recovery: the former one of a rollout, the wanted one of
            a rollback.
        digest: digest of that release.
    """

    event: Event
    release: str | None
    digest: str | None


def open_transition(events: Sequence[Event]) -> Transition | None:
    """The last rollout or rollback that began and was neither finished nor taken back."""
    found: Transition | None = None
    for event in events:
        if event.outcome == "started" and event.step == "rollout":
            found = Transition(event, event.former, event.former_digest)
        elif event.outcome == "started" and event.step == "rollback":
            found = Transition(event, event.release, event.digest)
        elif (
            (event.step == "promotion" and event.outcome in {"pass", "no-op"})
            or (event.step == "rollout" and event.outcome == "no-op")
            or (event.step in WAYS_BACK and event.outcome == "pass")
            # Left as it is by order, or nothing to take back; what another model's step says so ends nothing here.
            or (event.step in WAYS_BACK and event.outcome == "skipped" and _is_of(found, event.model_id))
        ):
            found = None
    return found


def _is_of(transition: Transition | None, model_id: str | None) -> bool:
    return transition is not None and transition.event.model_id == model_id


def last_promoted(events: Sequence[Event]) -> Event | None:
    """The event after which the newest proven release served."""
    proven = [event for event in events if event.outcome == "pass" and event.step in {"promotion", *WAYS_BACK}]
    return proven[-1] if proven else None


def recover(tools: Tools, actor: str) -> Event | None:
    """End what a killed deployment left half done; ``None`` when nothing is open.

    Raises:
        DeploymentError: the release that must serve cannot be brought back.
    """
    transition = open_transition(tools.history.events())
    if transition is None:
        return None
    return _end(tools, transition, step="recovery", actor=actor, reason="the deployment was interrupted")


def take_back(tools: Tools, *, month: Month, attempt: str, model_id: str, actor: str, reason: str) -> Event:
    """Bring the release back that served before a model's rollout; verified, recorded, told.

    Raises:
        DeploymentError: it cannot be brought back; that is recorded and told too, and recovery will try again.
    """
    transition = open_transition(tools.history.events())
    if transition is None or not _is_of(transition, model_id):
        return tools.history.append(
            month=month,
            attempt=attempt,
            actor=actor,
            step="rollback",
            outcome="skipped",
            model_id=model_id,
            summary="no traffic was moved",
        )
    return _end(tools, transition, step="rollback", actor=actor, reason=reason)


def _end(tools: Tools, transition: Transition, *, step: str, actor: str, reason: str) -> Event:
    began = time.perf_counter()
    opened, wanted = transition.event, transition.release
    month = parse_month(opened.month)
    common: dict[str, Any] = {
        "month": month,
        "attempt": opened.attempt,
        "actor": actor,
        "step": step,
        "release": wanted,
        "digest": transition.digest,
    }
    try:
        if not _serves_alone(_serving(tools), wanted):
            tools.target.restore(wanted)
        serving = _verified(tools, wanted, transition.digest)
        common["model_id"] = serving.model_id if serving is not None else None
        _realign(tools, common["model_id"])
    except DeploymentError as error:
        tools.history.append(**common, outcome="fail", summary=str(error), seconds=_since(began))
        tools.alert(
            templates.going_back_failed(
                month=month_key(month),
                release=str(opened.model_id),
                wanted=wanted,
                reason=f"{reason}; but {error}",
                attempt=opened.attempt,
            )
        )
        raise
    event = tools.history.append(**common, outcome="pass", summary=reason, seconds=_since(began))
    tools.alert(
        templates.rolled_back(
            month=month_key(month),
            release=str(opened.model_id),
            restored=wanted,
            reason=reason,
            attempt=opened.attempt,
        )
    )
    return event


def rollback(tools: Tools, *, actor: str, reason: str, to: str | None = None) -> Event:
    """Go back by hand: to the release promoted before the one that serves (or is rolled out), or to a named model.

    Args:
        tools: what to work with.
        actor: who asks.
        reason: why.
        to: model id or release id; it must have been promoted before.

    Returns:
        The recorded event; its ``seconds`` run from the call to the verified switch.

    Raises:
        DeploymentError: there is nothing to go back to, or it cannot be brought back.
    """
    began = time.perf_counter()
    serving = _serving(tools)
    goal = _goal(tools, serving, to)
    common: dict[str, Any] = {
        "month": parse_month(goal.month),
        "attempt": f"rollback-{tools.clock():%Y%m%dT%H%M%S%f}",
        "actor": actor,
        "step": "rollback",
        "release": goal.release,
        "digest": goal.evidence.get("release_digest", goal.digest),
        "model_id": goal.model_id,
        "former": serving.release if serving is not None else None,
        "former_digest": serving.digest if serving is not None else None,
    }
    tools.history.append(**common, outcome="started", summary=reason)
    try:
        tools.target.restore(goal.release)
        _verified(tools, goal.release, common["digest"])
        switched = _since(began)
        _realign(tools, goal.model_id)
    except DeploymentError as error:
        tools.history.append(**common, outcome="fail", summary=str(error), seconds=_since(began))
        raise
    event = tools.history.append(
        **common,
        outcome="pass",
        summary=reason,
        seconds=switched,
        evidence={"seconds_with_registry": _since(began), "release_digest": common["digest"]},
    )
    tools.alert(
        templates.rolled_back(
            month=goal.month,
            release=serving.model_id if serving is not None else "nothing",
            restored=goal.model_id,
            reason=f"{reason} (by {actor})",
            attempt=common["attempt"],
        )
    )
    return event


def _goal(tools: Tools, serving: Serving | None, to: str | None) -> Event:
    """The promotion to which a rollback goes back: of the release named, or the last one before the serving release's.

    Going back twice goes back by two: what was promoted after the serving release is what somebody went back from. In
    the middle of a rollout it is the rollout that one goes back from, however little traffic it has.
    """
    there = set(tools.target.releases())
    promotions = [
        event
        for event in tools.history.events()
        if event.step == "promotion" and event.outcome == "pass" and event.release in there
    ]
    current = serving.release if serving is not None else None
    transition = open_transition(tools.history.events())
    if to is None and transition is not None and transition.event.step == "rollout":
        to = transition.release
    if to is not None:
        possible = [event for event in promotions if to in {event.release, event.model_id}]
    else:
        places = [place for place, event in enumerate(promotions) if event.release == current]
        before = promotions[: places[-1]] if places else promotions
        possible = [event for event in before if event.release != current]
    if possible:
        return possible[-1]
    known = ", ".join(dict.fromkeys(str(event.model_id) for event in promotions)) or "none"
    raise DeploymentError(
        "no former release is there to go back to" if to is None else f"model {to} was never promoted, or is gone",
        where=f"{tools.target.name} {tools.target.environment}",
        remedy=f"choose one of: {known}",
    )


def _serving(tools: Tools) -> Serving | None:
    try:
        return tools.target.serving()
    except DeploymentError as error:
        _log.warning("serving_unknown", reason=error.what)
        return None


def _serves_alone(serving: Serving | None, release_id: str | None) -> bool:
    if serving is None:
        return False
    return serving.release == release_id and set(serving.weights) == {release_id}


def _verified(tools: Tools, release_id: str | None, digest: str | None) -> Serving | None:
    """What serves, after proof that it is the wanted release, alone."""
    serving = tools.target.serving()
    if release_id is None and serving is None:
        return None
    if not _serves_alone(serving, release_id) or serving is None or digest not in {None, serving.digest}:
        found = serving.release if serving is not None else "nothing"
        raise DeploymentError(
            f"after going back, {found} serves instead of {release_id or 'nothing'}",
            where=f"{tools.target.name} {tools.target.environment}",
            remedy="run health-pipeline rollback --to MODEL_ID",
        )
    return serving


def _realign(tools: Tools, model_id: str | None) -> None:
    """Let the aliases say what serves."""
    holder = tools.registry.holder(CHAMPION)
    if holder != model_id:
        if holder is not None and model_id is not None:
            tools.registry.point(PREVIOUS, holder)
        tools.registry.point(CHAMPION, model_id)
    if tools.registry.holder(CHALLENGER) is not None:
        tools.registry.point(CHALLENGER, None)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
