"""Staging before production: what fails there never comes near production."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from health_pipeline_tests.deployment.conftest import Yard, make_yard
from health_pipeline_tests.serving.bundles import linear_bundle


@pytest.fixture
def staged(tmp_path, registry_store, monkeypatch) -> Iterator[Yard]:
    monkeypatch.setenv("MISBEHAVE", str(tmp_path / "misbehave.json"))
    (tmp_path / "misbehave.json").write_text("{}")
    made = make_yard(
        tmp_path / "home", registry_store, tmp_path.name, environments=("staging", "production"), canary_weights=()
    )
    yield made
    made.target.stop()
    for stage in made.tools.stages:
        stage.stop()


@pytest.mark.slow
def test_a_release_passes_staging_before_production(staged, tmp_path):
    first, broken = linear_bundle(), linear_bundle(0.01)
    (staging,) = staged.tools.stages
    assert staging.endpoint().url != staged.target.endpoint().url

    results = {result.step: result for result in staged.ship(first, attempt="first")}
    assert results["promotion"].outcome == "pass", results
    names = [finding.name for finding in results["rollout"].findings]
    assert names.index("staging_digest") < names.index("staging_success_rate") < names.index("traffic")
    assert staging.serving().model_id == staged.target.serving().model_id == first.model_id

    (tmp_path / "misbehave.json").write_text(json.dumps({broken.model_id: ["five_percent", "traffic"]}))
    production = staged.settings.home / "serving" / "production" / "traffic.json"
    before = production.read_bytes()
    failed = staged.ship(broken, attempt="second")[-1]
    assert (failed.step, failed.outcome) == ("rollout", "fail")
    assert failed.summary.startswith("staging_")
    assert production.read_bytes() == before  # not a single generation
    assert staging.serving().model_id == staged.target.serving().model_id == staged.holder("champion") == first.model_id
    assert "deployment_failed" in staged.kinds()


@pytest.mark.slow
@pytest.mark.parametrize("broken", [RuntimeError("a bug of ours"), KeyboardInterrupt()])
def test_whatever_breaks_in_staging_leaves_it_as_it_was(staged, monkeypatch, broken):
    first, second = linear_bundle(), linear_bundle(0.01)
    (staging,) = staged.tools.stages
    assert staged.ship(first, attempt="first")[-1].outcome == "pass"

    def breaks(*_):
        raise broken

    monkeypatch.setattr("health_pipeline.deployment.attempt.observe", breaks)
    with pytest.raises(KeyboardInterrupt) if isinstance(broken, KeyboardInterrupt) else contextlib.nullcontext():
        assert staged.ship(second, attempt="second")[-1].outcome == "fail"
    assert staging.serving().model_id == staged.target.serving().model_id == first.model_id
    assert staging._traffic().fallback is None
