"""The compiled scorer gives what the bundle gives."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.errors import DeploymentError
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.serving.release import BUNDLE, MANIFEST, pack_release, read_release
from health_pipeline.serving.scorers import BundleScorer, load_scorer
from health_pipeline_tests.serving.bundles import facts_of, pack


def random_rows(count: int, seed: int = 1) -> list[tuple]:
    generator = np.random.default_rng(seed)

    def maybe(value):
        return None if generator.random() < 0.2 else value

    return [
        (
            maybe(float(generator.normal(60, 30))),
            maybe(float(abs(generator.normal(5, 30)))),
            maybe(float(generator.integers(0, 9))),
            maybe(bool(generator.integers(0, 2))),
            maybe(["medicare", "medicaid", "private", "never seen", ""][generator.integers(0, 5)]),
        )
        for _ in range(count)
    ]


def table_of(rows: list[tuple], bundle: Bundle) -> pa.Table:
    types = {"numeric": pa.float64(), "boolean": pa.bool_(), "categorical": pa.string()}
    return pa.table(
        {
            feature.name: pa.array([row[index] for row in rows], types[feature.kind])
            for index, feature in enumerate(bundle.features)
        }
    )


@pytest.mark.parametrize("family", ["linear", "trees"])
def test_one_many_and_bundle_agree(family, request):
    bundle = request.getfixturevalue(family)
    rows = random_rows(400)
    expected = bundle.probabilities(table_of(rows, bundle))
    scorer = BundleScorer(bundle)
    assert np.abs(np.array([scorer.probability(row) for row in rows]) - expected).max() < 1e-9
    assert np.abs(np.array(scorer.probabilities(rows)) - expected).max() < 1e-9
    assert expected.std() > 0.03  # the rows do differ


@pytest.mark.parametrize("family", ["linear", "trees"])
def test_contributions_add_up_to_the_log_odds(family, request):
    scorer = BundleScorer(request.getfixturevalue(family))
    for row in random_rows(30):
        parts = scorer.contributions(row)
        assert set(parts) == {"bias", *(feature.name for feature in scorer.features)}
        probability = scorer.probability(row)
        assert math.fsum(parts.values()) == pytest.approx(math.log(probability / (1 - probability)), abs=1e-4)


def test_release_is_the_same_folder_for_the_same_content(linear, tmp_path):
    first, second = pack(linear, tmp_path), pack(linear, tmp_path)
    assert first == second
    assert [path.name for path in (tmp_path / "releases").iterdir()] == [first.release_id]


def test_a_changed_byte_is_refused(linear, tmp_path):
    release = pack(linear, tmp_path)
    folder = tmp_path / "releases" / release.release_id
    bundle = folder / BUNDLE / "bundle.json"
    bundle.write_bytes(bundle.read_bytes().replace(b'"intercept": -3.0', b'"intercept": -2.0'))
    with pytest.raises(DeploymentError, match=r"differs from its digest: bundle/bundle\.json"):
        read_release(folder)
    assert pack(linear, tmp_path) == release  # packing again mends it
    assert read_release(folder) == release


def test_changed_facts_are_refused(linear, tmp_path):
    release = pack(linear, tmp_path)
    manifest = tmp_path / "releases" / release.release_id / MANIFEST
    manifest.write_text(manifest.read_text().replace('"threshold": 0.2', '"threshold": 0.3'))
    with pytest.raises(DeploymentError, match=r"differs from its digest: release\.json"):
        read_release(manifest.parent)


def test_a_bundle_other_than_the_trained_one_is_refused(linear, tmp_path):
    folder = tmp_path / "models" / "x"
    linear.save(folder)
    release = pack_release(folder, facts_of(linear, "0" * 64), tmp_path / "releases")
    with pytest.raises(Exception, match="digest"):
        load_scorer(tmp_path / "releases" / release.release_id, release)


def test_packing_nothing_says_so(tmp_path, linear):
    with pytest.raises(DeploymentError, match="missing or empty"):
        pack_release(tmp_path / "nothing", facts_of(linear, "x"), tmp_path / "releases")
