"""Where a rollback by hand goes, after any history."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

from health_pipeline.clock import system_clock
from health_pipeline.deployment import History, rollback
from health_pipeline.deployment.recovery import open_transition, take_back
from health_pipeline.deployment.target import Serving
from health_pipeline.errors import DeploymentError

MAY = dt.date(2023, 5, 1)


class Target:
    """A target that switches at once."""

    name, environment = "paper", "production"

    def __init__(self, releases: list[str]) -> None:
        self._releases, self._release = releases, releases[-1]

    def releases(self) -> list[str]:
        return self._releases

    def restore(self, release_id: str) -> None:
        self._release = release_id

    def serving(self) -> Serving:
        return Serving(self._release, f"sha256:{self._release}", self._release, {self._release: 1.0})


@pytest.fixture
def tools(tmp_path):
    history = History(tmp_path / "history.jsonl", system_clock)
    promoted = ["first", "second", "third"]
    for release in promoted:
        history.append(
            month=MAY,
            attempt="a",
            actor="test",
            step="promotion",
            outcome="pass",
            model_id=release,
            release=release,
            digest=f"sha256:{release}",
        )
    registry = SimpleNamespace(holder=lambda _alias: None, point=lambda _alias, _model: None)
    return SimpleNamespace(
        history=history, target=Target(promoted), registry=registry, clock=system_clock, alert=lambda _alert: None
    )


def test_going_back_again_does_not_return_to_what_one_went_back_from(tools):
    assert rollback(tools, actor="me", reason="the third is bad").model_id == "second"
    assert rollback(tools, actor="me", reason="the second is bad too").model_id == "first"
    with pytest.raises(DeploymentError, match="no former release"):
        rollback(tools, actor="me", reason="and the first")
    assert rollback(tools, actor="me", reason="by name", to="third").model_id == "third"


def test_where_something_else_serves_the_last_promoted_release_is_taken(tools):
    tools.target.restore("by other means")
    assert rollback(tools, actor="me", reason="who put that there?").model_id == "third"


def test_from_a_canary_it_goes_back_to_what_served_before_it(tools):
    """Most traffic still meets that release: taken for the one to go back from, the harm would have been doubled."""
    common = {"month": MAY, "attempt": "b", "actor": "test", "model_id": "fourth"}
    tools.history.append(**common, step="rollout", outcome="started", former="third", former_digest="sha256:third")
    event = rollback(tools, actor="me", reason="scores of ward 3 doubled")
    assert event.model_id == tools.target.serving().model_id == "third"
    assert open_transition(tools.history.events()) is None
    assert rollback(tools, actor="me", reason="the third is bad too").model_id == "second"


def test_what_could_not_be_taken_back_may_still_have_traffic(tools):
    """The alert said that nothing serves, which was not known, and not so."""
    told = []
    tools.alert = told.append
    common = {"month": MAY, "attempt": "b", "actor": "test", "model_id": "fourth"}
    tools.history.append(**common, step="rollout", outcome="started", former="third", former_digest="sha256:third")

    def refuse(_release):
        raise DeploymentError("the cluster does not answer")

    restore, tools.target.restore = tools.target.restore, refuse
    tools.target._release = "fourth"
    for _ in range(2):
        with pytest.raises(DeploymentError):
            take_back(tools, **common, reason="health: errors")
    assert [alert.title for alert in told] == ["Going back failed (2023-05): fourth"] * 2
    assert told[0].event_id == told[1].event_id, "told once"
    assert "fourth may still have traffic; third shall serve instead" in told[0].body
    assert "nothing serves" not in told[0].body
    tools.target.restore = restore
    take_back(tools, **common, reason="health: errors")
    assert "third serves again" in told[-1].body


def test_the_same_rollback_another_day_is_told_again(tools):
    told = []
    tools.alert = told.append
    for _ in range(2):
        tools.target.restore("third")
        rollback(tools, actor="me", reason="it is bad")
    assert len({alert.event_id for alert in told}) == 2


def test_a_rollout_stays_open_whatever_a_step_of_another_model_finds(tools):
    """Its process may be killed later: recovery must still know of it."""
    common = {"month": MAY, "attempt": "b", "actor": "test"}
    tools.history.append(**common, step="rollout", outcome="started", model_id="fourth", former="third")
    take_back(tools, **{**common, "attempt": "other"}, model_id="fifth", reason="its verification failed")
    transition = open_transition(tools.history.events())
    assert transition is not None
    assert (transition.event.model_id, transition.release) == ("fourth", "third")
    tools.history.append(**common, step="rollback", outcome="skipped", model_id="fourth", summary="by order")
    assert open_transition(tools.history.events()) is None
