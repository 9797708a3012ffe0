"""The way of a good release."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import time

import pytest

from health_pipeline.deployment import STEPS, LocalTarget, Options, rollback, ship, tools_of
from health_pipeline.deployment.attempt import Attempt
from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.findings import Finding
from health_pipeline.deployment.records import Samples
from health_pipeline.deployment.recovery import open_transition
from health_pipeline.deployment.standing import Standing, standing
from health_pipeline.errors import DeploymentError
from health_pipeline.notify import templates
from health_pipeline.serving.release import MANIFEST, pack_release, read_release
from health_pipeline.settings import load_settings
from health_pipeline_tests.deployment.misbehaving import COMMAND
from health_pipeline_tests.notify.receivers import webhook
from health_pipeline_tests.serving.bundles import RECORD, facts_of, linear_bundle


def test_a_run_may_tell_others_than_the_settings_name(tmp_path):
    with webhook() as usual, webhook() as pager, webhook() as asked:
        settings = load_settings(home=tmp_path, notify={"urls": [usual.url], "critical_urls": [pager.url]})
        told = templates.rolled_back(month="2024-05-01", release="a", restored="b", reason="harm", attempt="1")
        tools_of(settings, channels=[asked.url]).alert(told)
        assert [len(hook.received) for hook in (usual, pager, asked)] == [0, 0, 1]


@pytest.mark.parametrize("limit", [{"max_records": 7}, {"max_body_bytes": 2_000}])
def test_an_api_that_takes_little_at_once_passes_its_tests(yard, first, limit):
    """They sent a hundred records at once, and no model could be deployed."""
    serving = yard.settings.serving.model_copy(update=limit)
    target = LocalTarget(yard.settings.model_copy(update={"serving": serving}), command=COMMAND)
    tools = dataclasses.replace(yard.tools, target=target, serving=serving)
    attempt = Attempt(yard.plan(first), Options(actor="test"), tools, "a")
    assert [attempt.run(step).outcome for step in STEPS[:3]] == ["pass", "pass", "pass"]


def test_the_champion_deployed_again_after_an_upgrade_is_another_release(yard, first, monkeypatch):
    """Its image holds the API of the version that built it; the same release again would leave the old one running."""
    monkeypatch.setattr("health_pipeline.__version__", "1.0")
    assert yard.ship(first)[-1].outcome == "pass"
    before = yard.target.serving()
    monkeypatch.setattr("health_pipeline.__version__", "1.1")
    results = yard.ship(first, attempt="b")
    assert {result.step: result.outcome for result in results} == {
        **dict.fromkeys(STEPS, "pass"),
        "registered_model": "no-op",
    }
    after = yard.target.serving()
    assert after.model_id == before.model_id == yard.holder("champion")
    assert after.release != before.release
    assert yard.holder("previous") is None
    assert yard.target._traffic().fallback is None
    assert rollback(yard.tools, actor="me", reason="the new version").release == before.release
    assert yard.ship(first, attempt="c")[-1].outcome == "pass"
    assert (yard.target.serving().release, yard.target._traffic().fallback) == (after.release, None)
    assert yard.tools.history.verify() == []


def test_a_rollback_by_hand_in_the_middle_of_a_canary_ends_the_deployment(yard, first, second, monkeypatch):
    """Also at the very end of an observation, which then has seen nothing of it."""
    assert yard.ship(first)[-1].outcome == "pass"

    def harm_is_seen(*_):
        rollback(yard.tools, actor="on-call", reason="scores of ward 3 doubled")
        return [Finding("success_rate", "pass", "all was well until then")]

    monkeypatch.setattr("health_pipeline.deployment.attempt.observe", harm_is_seen)
    last = yard.ship(second, "2023-06", attempt="b")[-1]
    assert (last.step, last.outcome) == ("rollout", "fail")
    assert "taken back meanwhile" in last.summary
    assert yard.target.serving().model_id == yard.holder("champion") == first.model_id
    assert set(yard.target.serving().weights.values()) == {1.0}
    assert open_transition(yard.tools.history.events()) is None


def test_a_release_of_before_versions_were_kept_can_be_read(first, tmp_path):
    folder = tmp_path / "bundle"
    packed = pack_release(folder, facts_of(first, first.save(folder)), tmp_path / "releases")
    manifest = tmp_path / "releases" / packed.release_id / MANIFEST
    kept = json.loads(manifest.read_text())
    assert kept["facts"].pop("built_by") == ""
    manifest.write_text(json.dumps(kept))
    assert read_release(manifest.parent) == packed


def served_model(yard) -> str:
    with ApiClient(yard.target.endpoint()) as client:
        reply = client.predict({"features": RECORD})
    assert reply.is_ok, reply
    return reply.body["predictions"][0]["model_id"]


def test_ship_ship_again_replace_and_roll_back(yard, first, second):
    results = yard.ship(first)
    assert [(result.step, result.outcome) for result in results] == [(step, "pass") for step in STEPS], results
    assert served_model(yard) == yard.holder("champion") == first.model_id
    assert yard.holder("challenger") is None

    again = yard.ship(first, attempt="b")
    assert {result.step: result.outcome for result in again} == {
        "registered_model": "no-op",
        "api_image": "pass",
        "api_tests": "no-op",
        "published_image": "pass",
        "rollout": "no-op",
        "verification": "pass",
        "health": "no-op",
        "promotion": "no-op",
    }

    replaced = yard.ship(second, "2023-06", attempt="c")
    assert all(result.outcome == "pass" for result in replaced), replaced
    names = [finding.name for finding in replaced[4].findings]
    assert {"canary_0.3_success_rate", "canary_0.3_p99", "canary_0.3_prediction_shift"} <= set(names)
    assert served_model(yard) == yard.holder("champion") == second.model_id
    assert yard.holder("previous") == first.model_id

    began = time.monotonic()
    event = rollback(yard.tools, actor="me", reason="ward complains")
    assert time.monotonic() - began < 5
    assert event.seconds < 5
    assert served_model(yard) == yard.holder("champion") == event.model_id == first.model_id
    assert yard.holder("previous") == second.model_id

    rollback(yard.tools, actor="me", reason="the other way", to=second.model_id)
    assert served_model(yard) == yard.holder("champion") == second.model_id
    with pytest.raises(DeploymentError, match="never promoted") as caught:
        rollback(yard.tools, actor="me", reason="typing", to="no-such-model")
    assert first.model_id in str(caught.value)

    assert yard.tools.history.verify() == []
    assert yard.kinds() == ["deployed", "deployed", "rolled_back", "rolled_back"], "what was there already is no news"


def test_a_month_that_is_decided_again_on_the_way_ends_the_attempt(yard, first, second):
    """The steps are processes of their own, and each reads the decision."""
    yard.ship(first)
    options, third = Options(actor="test"), yard.plan(linear_bundle(0.02), "2023-06")
    began = Attempt(yard.plan(second, "2023-06"), options, yard.tools, "c")
    for step in STEPS[: STEPS.index("rollout") + 1]:
        assert began.run(step).is_good
    assert served_model(yard) == second.model_id
    ended = Attempt(third, options, yard.tools, "c").run("verification")
    assert ended.outcome == "fail"
    assert served_model(yard) == yard.holder("champion") == first.model_id, "nobody would verify what served"
    events = yard.tools.history.events()
    assert open_transition(events) is None
    for model_id in (second.model_id, third.model_id):
        assert standing(events, third.month, model_id)[0] is Standing.OPEN


def test_api_tests_can_be_skipped_by_order_and_that_is_kept(yard, first):
    results = yard.ship(first, skip_api_tests=True)
    assert [result.outcome for result in results] == ["pass", "pass", "skipped", *["pass"] * 5]
    kept = [event for event in yard.tools.history.events() if event.step == "api_tests"]
    assert kept[-1].outcome == "skipped"
    assert "test" in kept[-1].summary


@pytest.mark.parametrize("lost", [None, "builds"], ids=["whole home", "what was built is gone"])
def test_a_model_with_very_different_predictions_is_not_let_through(yard, first, lost):
    yard.ship(first)
    if lost is not None:
        shutil.rmtree(yard.settings.home / lost)
    results = yard.ship(linear_bundle(2.0), attempt="b")
    assert (results[-1].step, results[-1].outcome) == ("rollout", "fail")
    assert "prediction_shift" in results[-1].summary
    assert served_model(yard) == yard.holder("champion") == first.model_id


def stays(emergencies: float) -> list[dict[str, object]]:
    """Two hundred records, a share of them emergencies."""
    return [
        {
            **RECORD,
            "age": 30.0 + number % 60,
            "prior_admissions": number % 4,
            "is_emergency": number % 10 < 10 * emergencies,
        }
        for number in range(200)
    ]


@pytest.mark.parametrize(
    ("recent", "judged", "outcome"),
    [
        (0.5, 0.5, "pass"),  # the gates saw how differently it predicts for emergencies, and accepted it
        (1.0, 0.1, "fail"),  # they saw few of them
        (0.5, None, "fail"),  # they saw nothing
    ],
)
def test_predictions_may_shift_as_far_as_the_gates_saw_them_shift(yard, first, recent, judged, outcome):
    (member,) = first.members
    weights = list(member.predictor.coefficients)
    weights[first_column(member, "is_emergency")] += 2.0
    changed = dataclasses.replace(member, predictor=dataclasses.replace(member.predictor, coefficients=tuple(weights)))
    other = dataclasses.replace(first, members=(changed,)).named("lr", "2023-06")
    yard.ship(first)
    samples = Samples(stays(recent), [] if judged is None else stays(judged))
    results = ship(yard.plan(other, "2023-06"), Options(actor="test"), yard.tools, "b", samples)
    found = {finding.name: finding for finding in results[4].findings}
    assert found["canary_0.3_prediction_shift"].outcome == outcome, found
    assert served_model(yard) == yard.holder("champion") == (other if outcome == "pass" else first).model_id


def first_column(member, feature: str) -> int:
    """Position of a feature among the encoded columns."""
    before = itertools.takewhile(lambda encoding: encoding.feature != feature, member.encodings)
    return sum(len(encoding.columns) for encoding in before)


def test_too_few_requests_are_inconclusive_and_fail(yard, first):
    import dataclasses

    from health_pipeline.deployment.findings import Finding, overall

    yard.tools = dataclasses.replace(
        yard.tools, limits=yard.tools.limits.model_copy(update={"min_requests": 10_000, "health_seconds": 0.01})
    )
    assert overall([]) == "inconclusive"
    assert overall([Finding("a", "pass", ""), Finding("b", "inconclusive", "")]) == "inconclusive"
    assert overall([Finding("a", "fail", ""), Finding("b", "inconclusive", "")]) == "fail"
