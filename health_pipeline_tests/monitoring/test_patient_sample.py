from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health_pipeline.modeling.calibration import Calibration
from health_pipeline.modeling.metrics import Estimate, measure, measure_with_intervals
from health_pipeline.monitoring.concept_rows import MONTH_ROWS, concept_rows
from health_pipeline.monitoring.estimation import expected_performance
from health_pipeline.monitoring.patient_sample import LEAST_RARER, MOST_ROWS, narrowed, patient_sample
from health_pipeline.monitoring.performance_rows import realised_rows
from health_pipeline.monitoring.scored import Scored
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import Settings

MAY = parse_month("2022-05")
SETTINGS = Settings()


def scored(rows: int, months: MonthRange, seed: int = 1, cared: float = 0.0, base: float = -2.0) -> Scored:
    """Months of ``rows`` stays of patients who come back; ``cared`` moves the odds of some in the last month."""
    random = np.random.default_rng(seed)
    count = rows * len(months)
    month = np.repeat(np.array(list(months), "datetime64[D]"), rows)
    logit = random.normal(base, 0.9, count)
    is_cared = random.random(count) < 0.3
    moved = cared * is_cared * (month == np.datetime64(months.last))
    probability = 1 / (1 + np.exp(-logit))
    return Scored(
        month,
        pd.Categorical.from_codes(np.zeros(count, np.int8), ["model"]),
        random.integers(0, count // 2, count).astype(np.uint64),
        probability,
        (probability > 0.2).astype(float),
        (random.random(count) < 1 / (1 + np.exp(-(logit + moved)))).astype(float),
        {"sex": pd.Categorical(np.where(np.arange(count) % 3 == 0, "female", "male"))},
        {"disposition": pd.Categorical(np.where(is_cared, "cared", "home"))},
    )


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300),
    st.integers(1, 200),
    st.floats(0, 300),
)
def test_a_sample_holds_whole_patients_and_never_nobody(numbers: list[int], most: int, rarer: float) -> None:
    patient = np.array(numbers, np.uint64)
    chosen = patient_sample(patient, most_rows=most, rarer=rarer)
    if chosen is None:
        assert patient.size <= max(most, math.ceil(LEAST_RARER / max(rarer, 1) * patient.size))
        return
    assert chosen.sum() >= most
    assert not set(patient[chosen]) & set(patient[~chosen])


def test_patients_numbered_as_they_come_are_sampled_from_all_of_them() -> None:
    patient = np.arange(100_000, dtype=np.uint64)
    chosen = patient_sample(patient)
    assert chosen is not None
    assert chosen.sum() == MOST_ROWS
    assert np.flatnonzero(chosen).mean() == pytest.approx(50_000, rel=0.03)


def test_a_rare_outcome_makes_the_sample_larger() -> None:
    patient = np.arange(100_000, dtype=np.uint64)
    chosen = patient_sample(patient, rarer=2_000)
    assert chosen is not None
    assert chosen.sum() == 100_000 * LEAST_RARER // 2_000
    assert patient_sample(patient, rarer=LEAST_RARER) is None, "all rows of the rarer outcome are wanted"


def test_the_interval_narrows_with_the_root_of_the_rows() -> None:
    assert narrowed(0.7, Estimate(0.72, 0.68, 0.74, 2_500), 10_000) == Estimate(
        0.7, pytest.approx(0.68), pytest.approx(0.71), 10_000
    )


@pytest.mark.parametrize("base", [-2.0, -4.5], ids=["common", "rare"])
def test_many_rows_are_measured_whole_and_their_intervals_are_those_of_resampling_all(base: float) -> None:
    rows = scored(20_000, MonthRange(MAY, MAY), base=base)
    settings = SETTINGS.model_copy(update={"monitoring": replaced(bootstrap_replicates=400)})
    found = {row["metric"]: row for row in realised_rows(rows, MAY, 1, {}, settings) if row["segment"] == "all"}
    whole = measure_with_intervals(
        rows.outcome, rows.probability, threshold=rows.threshold, clusters=rows.patient, replicates=400, seed=5
    )
    for name, estimate in whole.items():
        row = found[name]
        assert row["value"] == pytest.approx(estimate.value, rel=1e-9), name
        assert row["n"] == len(rows)
        width = (row["ci_high"] - row["ci_low"]) / (estimate.ci_high - estimate.ci_low)
        assert 0.8 < width < 1.25, f"{name}: {width:.2f} of the interval of all rows"


def replaced(**changed: object) -> object:
    return SETTINGS.monitoring.model_copy(update=changed)


def test_intervals_of_a_sample_hold_what_they_promise() -> None:
    """True AUROC and O/E of 80 large months are in their 95 % intervals about as often as they say."""
    truth = scored(2_000_000, MonthRange(MAY, MAY), seed=99)
    known = measure(truth.outcome, truth.probability, metrics=("roc_auc", "observed_expected"))
    inside = dict.fromkeys(known, 0)
    for seed in range(80):
        rows = scored(12_000, MonthRange(MAY, MAY), seed=seed)
        for row in realised_rows(replace(rows, segments={}), MAY, 1, {}, SETTINGS):
            if row["metric"] in known:
                inside[row["metric"]] += row["ci_low"] <= known[row["metric"]] <= row["ci_high"]
    for name, times in inside.items():
        assert 0.88 <= times / 80 <= 0.99, name


def test_what_is_expected_of_many_rows_has_the_interval_of_all_of_them() -> None:
    rows = scored(20_000, MonthRange(MAY, MAY))
    metrics = ("roc_auc", "brier", "observed_expected", "recall")
    found = expected_performance(rows, Calibration(), 400, 3, metrics)
    random = np.random.default_rng(4)
    drawn = []
    for _ in range(200):
        at = random.integers(0, len(rows), len(rows))
        outcome = random.random(len(rows)) < rows.probability[at]
        drawn.append(measure(outcome, rows.probability[at], rows.threshold[at], metrics))
    for name, estimate in found.items():
        values = np.array([each[name] for each in drawn])
        assert estimate.value == pytest.approx(values.mean(), rel=0.01), name
        width = (estimate.ci_high - estimate.ci_low) / (3.92 * values.std())
        assert 0.75 < width < 1.3, f"{name}: {width:.2f}"


def test_groups_and_their_sizes_agree() -> None:
    rows = scored(500, MonthRange(MAY, MAY))
    rows.segments["payer"] = pd.Categorical(["a"] * 500, categories=["a", "nobody"])  # type: ignore[index]
    found = {name: (len(group), int(group.outcome.sum())) for name, group in rows.groups()}
    assert found == rows.group_sizes()
    assert list(found) == ["all", "sex=female", "sex=male", "payer=a"]


def test_a_changed_concept_is_found_in_a_sample_of_a_large_month() -> None:
    months = MonthRange.of("2021-08", "2022-05")
    for cared, expected in ((0.0, {"ok", "warning"}), (0.6, {"alarm"})):
        rows = list(concept_rows(scored(15_000, months, cared=cared), MAY, SETTINGS))
        (judged,) = (row for row in rows if row["metric"] == "concept_change")
        assert judged["status"] in expected
        assert judged["n"] == pytest.approx(MONTH_ROWS, rel=0.02)
