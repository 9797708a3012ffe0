"""The checks of the history say no when they should."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest

from health_pipeline.deployment import LocalTarget
from health_pipeline.deployment.checks import CHECKS
from health_pipeline.deployment.history import HISTORY
from health_pipeline.deployment.registry import CHAMPION
from health_pipeline.deployment.shipping import tools_of
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Verdict
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.deployment.conftest import Yard, settings_for
from health_pipeline_tests.serving.bundles import linear_bundle

MONTHS = MonthRange(dt.date(2023, 5, 1), dt.date(2023, 6, 1))


@dataclass
class Ground:
    """A home in which two models were shipped, one after the other, and the history was mirrored."""

    settings: Settings
    yard: Yard

    def verdict(self, name: str) -> Verdict:
        (check,) = [check for check in CHECKS if check.name == name]
        first, second = check.evaluate(Warehouse.from_settings(self.settings), MONTHS, self.settings)
        assert [first.month, second.month] == list(MONTHS)
        assert first.passed == second.passed
        return first


@pytest.fixture(scope="module")
def ground(tmp_path_factory, registry_store) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("home")
    base = settings_for(home)
    mlflow = base.mlflow.model_copy(update={"tracking_uri": registry_store, "experiment": home.name})
    settings = base.model_copy(update={"mlflow": mlflow})
    made = Ground(settings, Yard(settings, tools_of(settings)))
    for bundle, month in ((linear_bundle(), "2023-05"), (linear_bundle(0.01), "2023-06")):
        results = made.yard.ship(bundle, month, attempt=month)
        assert results[-1].outcome == "pass", results
    mirror(made)
    yield made
    LocalTarget(settings).stop()


def mirror(ground: Ground) -> None:
    warehouse = Warehouse.from_settings(ground.settings)
    rows: pa.Table = arrow_rows(HISTORY, ground.yard.tools.history.rows(list(MONTHS)))
    warehouse.replace(HISTORY, MONTHS, rows)


def test_a_whole_history_and_one_model_everywhere_pass(ground):
    chain, production = ground.verdict("chain_is_whole"), ground.verdict("production_agrees")
    assert chain.passed, chain
    assert chain.numbers["rows"] == len(ground.yard.tools.history.events()) > 20
    assert production.passed, production
    assert set(production.numbers.values()) == {linear_bundle(0.01).model_id}


def _cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _changed(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"actor":"test"', b'"actor":"nobody"'), *lines[1:]]


def _emptied(lines: list[bytes]) -> list[bytes]:
    del lines
    return []


def _unreadable(lines: list[bytes]) -> list[bytes]:
    return [b"{\n", *lines]


@pytest.mark.parametrize(
    ("tampering", "says"),
    [
        (_cut, "of the table is not in the log"),
        (_changed, "was changed"),
        (_emptied, "of the table is not in the log"),
        (_unreadable, "cannot be read"),
    ],
)
def test_a_history_that_was_touched_fails(ground, tampering: Callable[[list[bytes]], list[bytes]], says):
    path = ground.yard.tools.history.path
    before = path.read_bytes()
    path.write_bytes(b"".join(tampering(before.splitlines(keepends=True))))
    try:
        verdict = ground.verdict("chain_is_whole")
    finally:
        path.write_bytes(before)
    assert not verdict.passed
    assert says in verdict.summary
    assert ground.verdict("chain_is_whole").passed


def test_an_alias_that_names_another_model_fails(ground):
    registry = ground.yard.tools.registry
    registry.point(CHAMPION, linear_bundle().model_id)
    try:
        verdict = ground.verdict("production_agrees")
    finally:
        registry.point(CHAMPION, linear_bundle(0.01).model_id)
    assert not verdict.passed
    assert verdict.numbers["alias"] == linear_bundle().model_id
    assert verdict.numbers["traffic"] == verdict.numbers["history"] == linear_bundle(0.01).model_id


def test_traffic_that_goes_to_another_release_fails(ground):
    target = ground.yard.target
    serving = target.serving()
    (other,) = [release for release in target.releases() if release != serving.release]
    target.restore(other)
    try:
        verdict = ground.verdict("production_agrees")
    finally:
        target.restore(serving.release)
    assert not verdict.passed
    assert verdict.numbers["traffic"] == linear_bundle().model_id
    assert ground.verdict("production_agrees").passed


def test_an_api_that_cannot_be_asked_fails(ground):
    traffic = ground.settings.home / "serving" / "production" / "traffic.json"
    before = traffic.read_bytes()
    traffic.write_bytes(b"{")
    try:
        verdict = ground.verdict("production_agrees")
    finally:
        traffic.write_bytes(before)
    assert not verdict.passed
    assert "cannot be read" in verdict.summary


def test_a_rollout_that_has_not_ended_is_a_warning(ground):
    history = ground.yard.tools.history
    before = history.path.read_bytes()
    history.append(
        month=MONTHS.last, attempt="x", actor="test", step="rollout", outcome="started", model_id="m", former="f"
    )
    try:
        verdict = ground.verdict("production_agrees")
    finally:
        history.path.write_bytes(before)
    assert not verdict.passed
    assert verdict.severity == "WARN"
    assert "has not ended" in verdict.summary
