from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from health_pipeline.monitoring.concept import Change, Outcomes, combine, compare_outcomes
from health_pipeline.monitoring.strata import strata_sql
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline_tests.monitoring.conftest import hospital
from health_pipeline_tests.monitoring.test_performance import SEPTEMBER, performance, rows_where

REFERENCE_MONTHS = 9


def months(
    seed: int,
    numbers: range,
    *,
    rows: int = 800,
    misfit: float = 0.0,
    slope: float = 1.0,
    cared: float = 0.0,
    unrest: float = 0.0,
) -> Outcomes:
    """Scored months: ``misfit`` is a constant error of the model, ``cared`` moves the odds of a third of the rows."""
    random = np.random.default_rng([seed, numbers.start])
    month = np.repeat(np.array(numbers), rows)
    logit = random.normal(-2, 0.9, month.size)
    is_cared = random.random(month.size) < 0.3
    effect = random.normal(0, unrest, len(numbers))
    truth = misfit + slope * (logit + 2) - 2 + cared * is_cared + np.repeat(effect, rows) * is_cared
    outcome = random.random(month.size) < 1 / (1 + np.exp(-truth))
    strata = {
        "disposition": pd.Categorical(np.where(is_cared, "cared", "home")),
        "age": pd.Categorical(random.choice(["young", "old"], month.size)),
        "payer": pd.Categorical(random.choice(["a", "b", "c"], month.size, p=[0.5, 0.48, 0.02])),
    }
    return Outcomes(month, logit, outcome.astype(float), strata)


def compare(seed: int, *, before: dict[str, float] | None = None, **changed: float) -> Change:
    known: dict[str, Any] = before or {}
    found = compare_outcomes(
        months(seed, range(REFERENCE_MONTHS, REFERENCE_MONTHS + 1), **(known | changed)),
        months(seed, range(REFERENCE_MONTHS), **known),
        10,
    )
    assert found is not None
    return found


def judged(change: Change) -> float:
    return combine([change.p_calibration, change.p_strata])


@pytest.mark.parametrize("before", [{}, {"misfit": 0.5, "slope": 0.6, "cared": 0.7}], ids=["right", "constant misfit"])
def test_an_unchanged_concept_seldom_alarms(before: dict[str, float]) -> None:
    p_values = np.array([judged(compare(seed, before=before)) for seed in range(150)])
    assert np.mean(p_values < 0.05) <= 0.085, "two standard errors above 5 %"
    assert np.mean(p_values < 0.05) >= 0.01, "a test that never says no is no test"
    assert np.mean(p_values < 0.01) <= 0.025


@pytest.mark.parametrize(
    "changed", [{"misfit": 0.6}, {"slope": 0.3}, {"cared": 1.2}], ids=["level", "slope", "stratum"]
)
def test_a_changed_concept_is_seen_in_its_first_month(changed: dict[str, float]) -> None:
    found = [judged(compare(seed, **changed)) < 0.01 for seed in range(40)]
    assert np.mean(found) >= 0.9


def test_the_stratum_that_changed_is_named_with_its_size() -> None:
    shifts = [{each.name: each for each in compare(seed, cared=1.0).shifts} for seed in range(30)]
    values = [each["disposition=cared"].value for each in shifts]
    assert np.mean(values) == pytest.approx(1.0, abs=0.25), "a one-step estimate is near the truth"
    low, high = shifts[0]["disposition=cared"].interval
    assert low < values[0] < high
    assert "payer=c" not in shifts[0], "too small to be looked at"


def test_months_that_always_differed_have_to_differ_more() -> None:
    restless = [judged(compare(seed, before={"unrest": 0.4}, cared=0.8)) for seed in range(20)]
    calm = [judged(compare(seed, cared=0.8)) for seed in range(20)]
    assert np.median(restless) > 3 * np.median(calm)
    alarms = np.mean([judged(compare(seed, before={"unrest": 0.3})) < 0.01 for seed in range(100)])
    assert alarms <= 0.05


def test_too_little_history_or_too_few_events_say_nothing() -> None:
    now = months(1, range(9, 10))
    assert compare_outcomes(now, months(1, range(2)), 10) is None
    few = now.where(np.r_[np.flatnonzero(now.outcome == 1)[:5], np.flatnonzero(now.outcome == 0)])
    assert compare_outcomes(few, months(1, range(9)), 10) is None


def without_fields(found: Outcomes, seed: int, *, together: bool) -> Outcomes:
    """A fifth of the stays lack disposition and payer: the same stays, or others."""
    random = np.random.default_rng([seed, found.month[0], 7])
    lacks = [random.random(found.month.size) < 0.2 for _ in range(2)]
    strata = {
        name: pd.Categorical(np.where(lack, "unknown", found.strata[name]))
        for name, lack in zip(("disposition", "payer"), lacks[:1] * 2 if together else lacks, strict=True)
    }
    return Outcomes(found.month, found.logit, found.outcome, found.strata | strata)


@pytest.mark.parametrize(("window", "reference"), [(True, True), (True, False), (False, True)])
def test_strata_with_the_same_stays_behind_them_are_tested_once(window: bool, reference: bool) -> None:
    """A feed that loses several fields of the same stays neither stops the test nor makes up a change."""

    def found(seed: int, cared: float) -> Change:
        now = without_fields(months(seed, range(9, 10), cared=cared), seed, together=window)
        change = compare_outcomes(now, without_fields(months(seed, range(9)), seed, together=reference), 10)
        assert change is not None
        return change

    stable = [found(seed, 0.0).p_strata for seed in range(40)]
    assert not np.isnan(stable).any()
    assert np.mean(np.array(stable) < 0.01) <= 0.05
    assert np.mean([found(seed, 1.2).p_strata < 0.01 for seed in range(20)]) > 0.9


def test_a_month_in_which_all_scores_are_the_same_says_nothing() -> None:
    now = months(1, range(9, 10))
    flat = Outcomes(now.month, np.full(now.logit.size, -2.0), now.outcome, now.strata)
    assert compare_outcomes(flat, months(1, range(9)), 10) is None


def test_combination() -> None:
    assert combine([0.03]) == pytest.approx(0.03)
    assert combine([0.2, math.nan, 0.2]) == pytest.approx(0.2)
    assert 0.001 < combine([0.001, 0.5, 0.7, 0.9]) < 0.005
    assert math.isnan(combine([math.nan]))
    assert combine([0.0, 1.0]) < 1.0


def test_strata_are_those_the_features_offer() -> None:
    assert strata_sql(["age", "sex"], "f") == {}
    found = strata_sql(["prior_inpatient_365d_log", "age_years", "charlson_heart_failure"], "f")
    assert set(found) == {"prior_stays", "age_75", "heart_failure"}
    values = "(VALUES (ln(1), 74, true), (ln(3), 75, false), (ln(4), NULL, NULL)) AS f"
    columns = "(prior_inpatient_365d_log, age_years, charlson_heart_failure)"
    rows = duckdb.sql(f"SELECT {', '.join(found[name] for name in sorted(found))} FROM {values}{columns}").fetchall()
    assert rows == [("no", "yes", "0"), ("yes", "no", "1-2"), ("unknown", "unknown", "3+")]


def test_a_changed_concept_alarms_in_its_first_matured_month(tmp_path: Path) -> None:
    def weaker(columns: dict[str, Any], random: np.random.Generator) -> None:
        columns["true_score"] = 0.1 * columns["number_0"]

    table = performance(hospital(tmp_path, {SEPTEMBER: weaker}))
    wanted = {"kind": "concept", "metric": "concept_change", "model_role": "champion"}
    status = {row["month"]: row["status"] for row in rows_where(table, **wanted)}
    assert status[SEPTEMBER] == "alarm"
    assert all(status[month] != "alarm" for month in status if month < SEPTEMBER)
    slopes = rows_where(table, month=SEPTEMBER, metric="slope_shift", window_months=1, model_role="champion")
    assert slopes[0]["ci_high"] < 0


def test_the_first_months_of_a_home_have_no_test(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    first = shift(parse_month("2020-01"), found.settings.windows.warm_up_months)
    table = performance(found, MonthRange(first, shift(first, 3)))
    status = [row["status"] for row in rows_where(table, metric="concept_change", model_role="champion")]
    assert status[:3] == ["no_data"] * 3
    assert status[3] != "no_data"


def test_a_window_that_leaves_no_month_to_compare_with_has_no_test_of_its_own(tmp_path: Path) -> None:
    short = {"training_months": 2, "min_training_months": 2, "validation_months": 1, "holdout_months": 1}
    found = hospital(
        tmp_path, rows=150, windows=short, monitoring={"bootstrap_replicates": 10, "performance_window": 13}
    )
    last = found.labels.months.last
    table = performance(found, MonthRange(last, last))
    (pooled,) = rows_where(
        table, model_role="champion", kind="realised", window_months=13, metric="roc_auc", segment="all"
    )
    assert pooled["value"] is not None
    assert {row["window_months"] for row in rows_where(table, kind="concept")} == {1}
