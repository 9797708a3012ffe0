"""Every fault at every step: afterwards the former release serves, alias and history agree, no request was lost.

One home for all of them: each fault must leave it as it was, or the next one fails too.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from health_pipeline.deployment import Options, recover, ship
from health_pipeline.deployment.recovery import last_promoted, open_transition
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.traffic import read_traffic
from health_pipeline_tests.deployment.conftest import Load, Yard, make_yard
from health_pipeline_tests.serving.bundles import linear_bundle

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, registry_store) -> Iterator[Yard]:
    root = tmp_path_factory.mktemp("faults")
    os.environ["MISBEHAVE"] = str(root / "misbehave.json")
    (root / "misbehave.json").write_text("{}")
    made = make_yard(root / "home", registry_store, root.name)
    results = made.ship(linear_bundle(), attempt="first")
    assert results[-1].step == "promotion", results
    assert results[-1].outcome == "pass"
    made.alerts.clear()
    yield made
    made.target.stop()
    del os.environ["MISBEHAVE"]


@pytest.fixture
def former(shared) -> Iterator[str]:
    """Runs a load during the test, and checks afterwards that nothing has changed for anybody."""
    model = linear_bundle().model_id
    with Load(shared.target.endpoint()) as load:
        yield model
        time.sleep(0.1)
    assert load.failed == []
    assert len(load.replies) > 20
    agrees(shared, model)
    shared.alerts.clear()


def agrees(yard: Yard, model: str) -> None:
    serving = yard.target.serving()
    assert serving is not None
    assert serving.model_id == model
    assert set(serving.weights) == {serving.release}
    assert yard.holder("champion") == model
    assert yard.holder("challenger") is None
    events = yard.tools.history.events()
    assert last_promoted(events).model_id == model
    assert open_transition(events) is None
    assert yard.tools.history.verify() == []


def challenger():
    return linear_bundle(0.001 * next(numbers))


def misbehave(yard: Yard, model_id: str, fault: str, where: str) -> None:
    (yard.settings.home.parent / "misbehave.json").write_text(json.dumps({model_id: [fault, where]}))


def fails_at(yard: Yard, step: str, bundle, says: str, **options) -> None:
    results = yard.ship(bundle, attempt=bundle.model_id, **options)
    assert (results[-1].step, results[-1].outcome) == (step, "fail"), results
    assert says in results[-1].summary, results[-1].summary
    assert "deployment_failed" in yard.kinds()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("dies", "the API process ended before it was ready"),
        pytest.param("five_percent", "predictions", marks=pytest.mark.slow),
        pytest.param("slow", "performance: p99", marks=pytest.mark.slow),
        pytest.param("wrong_version", "model_version: serves another-model", marks=pytest.mark.slow),
        pytest.param("other_answers", "predictions", marks=pytest.mark.slow),
    ],
)
def test_a_release_that_misbehaves_does_not_pass_the_api_tests(shared, former, fault, says):
    bundle = challenger()
    misbehave(shared, bundle.model_id, fault, "everywhere")
    fails_at(shared, "api_tests", bundle, says)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("five_percent", "canary_0.3_"),
        pytest.param("slow", "canary_0.3_p99", marks=pytest.mark.slow),
    ],
)
def test_a_release_that_misbehaves_only_in_traffic_is_taken_back(shared, former, fault, says):
    bundle = challenger()
    misbehave(shared, bundle.model_id, fault, "traffic")
    fails_at(shared, "rollout", bundle, says)
    assert "rolled_back" in shared.kinds()


@pytest.mark.slow
def test_a_release_that_dies_at_its_start_never_meets_the_serving_process(shared, former):
    bundle = challenger()
    misbehave(shared, bundle.model_id, "dies", "everywhere")
    fails_at(shared, "rollout", bundle, "ended before it was ready", skip_api_tests=True)


@pytest.mark.slow
def test_a_release_that_says_it_is_another_is_found_by_verification(shared, former):
    bundle = challenger()
    misbehave(shared, bundle.model_id, "wrong_version", "traffic")
    fails_at(shared, "verification", bundle, "digest: another-model serves")


@pytest.mark.slow
def test_errors_that_begin_after_the_canary_are_found_by_the_health_window(shared, former):
    bundle = challenger()
    tools = dataclasses.replace(shared.tools, limits=shared.tools.limits.model_copy(update={"canary_weights": ()}))
    misbehave(shared, bundle.model_id, "five_percent", "traffic")
    results = ship(shared.plan(bundle), Options(actor="test"), tools, bundle.model_id)
    assert (results[-1].step, results[-1].outcome) == ("health", "fail"), results
    assert "rolled_back" in shared.kinds()


@pytest.mark.slow
def test_no_data_in_the_health_window_fails(shared, former):
    bundle = challenger()
    limits = shared.tools.limits.model_copy(update={"min_requests": 401, "canary_weights": ()})
    results = ship(
        shared.plan(bundle), Options(actor="test"), dataclasses.replace(shared.tools, limits=limits), bundle.model_id
    )
    assert (results[-1].step, results[-1].outcome) == ("health", "inconclusive"), results
    assert "rolled_back" in shared.kinds()


def test_the_build_fails(shared, former):
    bundle = challenger()
    plan = shared.plan(bundle)
    (plan.bundle / "bundle.json").write_text("{}")
    results = ship(plan, Options(actor="test"), shared.tools, bundle.model_id)
    assert (results[-1].step, results[-1].outcome) == ("registered_model", "fail")
    assert "digest" in results[-1].summary


def test_a_package_damaged_between_steps_is_refused(shared, former):
    bundle = challenger()

    class Damaging(type(shared.target)):
        def build(self, release):
            (self.build_root / release.release_id / "bundle" / "bundle.json").write_text("{}")
            return super().build(release)

    target = Damaging(shared.settings, command=shared.target._command)
    results = ship(
        shared.plan(bundle), Options(actor="test"), dataclasses.replace(shared.tools, target=target), bundle.model_id
    )
    assert (results[-1].step, results[-1].outcome) == ("api_image", "fail")
    assert "differs from its digest" in results[-1].summary


def test_the_release_cannot_be_published(shared, former):
    bundle = challenger()
    releases = shared.settings.home / "releases"
    kept = releases.with_name("kept")

    class Full(type(shared.target)):
        def publish(self, package):
            releases.rename(kept)
            releases.write_text("not a folder")
            try:
                return super().publish(package)
            finally:
                releases.unlink()
                kept.rename(releases)

    tools = dataclasses.replace(shared.tools, target=Full(shared.settings, command=shared.target._command))
    results = ship(shared.plan(bundle), Options(actor="test", skip_api_tests=True), tools, bundle.model_id)
    assert (results[-1].step, results[-1].outcome) == ("published_image", "fail")
    assert "cannot be published" in results[-1].summary


def test_the_model_registry_refuses_the_promotion(shared, former):
    bundle = challenger()

    class Refusing(type(shared.tools.registry)):
        is_armed = True

        def point(self, alias, model_id):
            if alias == "champion" and self.is_armed:
                self.is_armed = False
                raise DeploymentError("the model registry does not answer: TimeoutError")
            super().point(alias, model_id)

    registry = Refusing(shared.tools.registry._uri, shared.tools.registry._name)
    results = ship(
        shared.plan(bundle),
        Options(actor="test"),
        dataclasses.replace(shared.tools, registry=registry),
        bundle.model_id,
    )
    assert (results[-1].step, results[-1].outcome) == ("promotion", "fail")
    assert "rolled_back" in shared.kinds()


KILLED = """
import dataclasses, datetime as dt, os, sys
from pathlib import Path
from health_pipeline.deployment import LocalTarget, Options, Plan, ship
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline_tests.deployment.conftest import make_yard
from health_pipeline_tests.serving.bundles import linear_bundle

home, store, name, port, shift, when = sys.argv[1:]

def die():
    os.kill(os.getpid(), 9)

class Target(LocalTarget):
    def shift(self, package, weight):
        if when == f"before shift {weight:g}":
            die()
        super().shift(package, weight)
        if when == f"after shift {weight:g}":
            die()
    def settle(self, package):
        if when == "before settle":
            die()
        super().settle(package)
        if when == "after settle":
            die()

class Registry(MLflowRegistry):
    def point(self, alias, model_id):
        super().point(alias, model_id)
        if when == f"after alias {alias}" and model_id is not None:
            die()

yard = make_yard(Path(home), store, name)
settings = yard.settings.model_copy(update={"serving": yard.settings.serving.model_copy(update={"port": int(port)})})
tools = dataclasses.replace(
    yard.tools, target=Target(settings, command=yard.target._command), registry=Registry(store, name)
)
bundle = linear_bundle(float(shift))
ship(yard.plan(bundle), Options(actor="test", skip_api_tests=True), tools, bundle.model_id)
"""


@pytest.mark.parametrize(
    "when",
    [
        "before shift 0.3",
        "after shift 0.3",
        "after shift 1",
        "after alias previous",
        "after alias champion",
        "before settle",
        "after settle",
    ],
)
@pytest.mark.slow
def test_the_orchestrator_is_killed_and_started_again(shared, former, when, tmp_path):
    shift = 0.001 * next(numbers)
    registry = shared.tools.registry
    arguments = [shared.settings.home, registry._uri, registry._name, shared.settings.serving.port, shift, when]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert open_transition(shared.tools.history.events()) is not None
    event = recover(shared.tools, "daemon")
    assert (event.step, event.outcome) == ("recovery", "pass")
    assert recover(shared.tools, "daemon") is None
    assert shared.kinds() == ["rolled_back"]


def test_a_kill_in_the_middle_of_the_canary_is_put_right_by_the_next_attempt(shared, former):
    """The quick version of the test above, ending in the next deployment's first step."""
    bundle = challenger()

    class Killed(BaseException):
        pass

    class Target(type(shared.target)):
        def shift(self, package, weight):
            super().shift(package, weight)
            raise Killed

        def restore(self, release_id):
            raise Killed  # no time for anything

    tools = dataclasses.replace(shared.tools, target=Target(shared.settings, command=shared.target._command))
    with pytest.raises(Killed):
        ship(shared.plan(bundle), Options(actor="test", skip_api_tests=True), tools, bundle.model_id)
    assert len(read_traffic(shared.settings.home / "serving" / "production" / "traffic.json").routes) == 2
    other = challenger()
    plan = shared.plan(other)
    (plan.bundle / "bundle.json").write_text("{}")  # this one stops at its first step
    ship(plan, Options(actor="test"), shared.tools, other.model_id)
    assert [event.step for event in shared.tools.history.events()][-3:] == [
        "recovery",
        "registered_model",
        "registered_model",
    ]


@pytest.mark.slow
def test_a_cancelled_step_puts_things_right_itself(shared, former):
    bundle = challenger()

    class Target(type(shared.target)):
        def shift(self, package, weight):
            super().shift(package, weight)
            raise KeyboardInterrupt

    tools = dataclasses.replace(shared.tools, target=Target(shared.settings, command=shared.target._command))
    with pytest.raises(KeyboardInterrupt):
        ship(shared.plan(bundle), Options(actor="test", skip_api_tests=True), tools, bundle.model_id)
    assert shared.tools.history.events()[-1].step == "rollback"


@pytest.mark.slow
def test_the_serving_process_is_killed(shared):
    """Outside our promise of no lost request (its open ones are gone), but it is back at once with the same model."""
    pid = int((shared.settings.home / "serving" / "production" / "supervisor.lock").read_text())
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    shared.target.start()
    agrees(shared, linear_bundle().model_id)


@pytest.mark.slow
def test_a_release_that_kills_the_serving_process_is_retreated_from(shared):
    """The trial was fine, the serving process dies all the same: the supervisor goes back to the former release."""
    bundle = challenger()
    misbehave(shared, bundle.model_id, "dies", "traffic")
    results = shared.ship(bundle, attempt=bundle.model_id, skip_api_tests=True)
    assert (results[-1].step, results[-1].outcome) == ("rollout", "fail")
    agrees(shared, linear_bundle().model_id)
