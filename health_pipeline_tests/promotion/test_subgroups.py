from __future__ import annotations

import msgspec
import numpy as np
import pytest

from health_pipeline.modeling.metrics import measure_with_intervals, paired_bootstrap
from health_pipeline.promotion.plan import load_plan
from health_pipeline.promotion.subgroups import auroc_with_influence, interval, observed_expected, subgroups
from health_pipeline_tests.promotion.hospital import hospital, logit, sigmoid

ACCEPTANCE = load_plan().acceptance
GIVEN = hospital(3, 2400)
GOOD = GIVEN.model(0, 1, 2)


def judge(groups, p=GOOD, incumbent=None, acceptance=ACCEPTANCE, small_number=11):
    found = subgroups(
        GIVEN.y,
        p,
        incumbent,
        GIVEN.patients,
        {name: np.asarray(levels, dtype=object) for name, levels in groups.items()},
        acceptance=acceptance,
        level=0.95,
        small_number=small_number,
    )
    return {group.name: group for group in found}


def levels(**counts):
    """A level for each row: the counts given, the rest is 'other'."""
    named = [name for name, count in counts.items() for _ in range(count)]
    return named + ["other"] * (GIVEN.y.size - len(named))


def test_auroc_counts_pairs_with_ties_half():
    y, p = np.array([1.0, 0, 1, 0, 0]), np.array([0.9, 0.1, 0.5, 0.5, 0.7])
    pairs = [(a, b) for a in p[y == 1] for b in p[y == 0]]
    expected = np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
    value, influence = auroc_with_influence(y, p)
    assert value == pytest.approx(expected)
    assert influence.sum() == pytest.approx(0)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_auroc_of_one_outcome_is_unknown(outcome):
    value, influence = auroc_with_influence(np.full(3, outcome), np.array([0.1, 0.2, 0.3]))
    assert np.isnan(value)
    assert np.isnan(influence).all()
    assert interval(value, influence, np.arange(3), 0.95).value is None


def test_closed_form_interval_agrees_with_the_clustered_bootstrap():
    value, influence = auroc_with_influence(GIVEN.y, GOOD)
    closed = interval(value, influence, GIVEN.patients, 0.95)
    drawn = measure_with_intervals(GIVEN.y, GOOD, clusters=GIVEN.patients, metrics=("roc_auc",), replicates=800)[
        "roc_auc"
    ]
    assert closed.value == pytest.approx(drawn.value)
    assert closed.high - closed.low == pytest.approx(drawn.ci_high - drawn.ci_low, rel=0.1)
    old = GIVEN.model(0)
    paired = paired_bootstrap("roc_auc", GIVEN.y, old, GOOD, GIVEN.patients, replicates=800)
    before, before_influence = auroc_with_influence(GIVEN.y, old)
    change = interval(value - before, influence - before_influence, GIVEN.patients, 0.95)
    assert change.value == pytest.approx(paired.difference)
    assert change.high - change.low == pytest.approx(paired.ci_high - paired.ci_low, rel=0.12)


def test_patients_who_come_often_widen_the_interval():
    value, influence = auroc_with_influence(GIVEN.y, GOOD)
    repeated = np.repeat(np.arange(GIVEN.y.size), 4)
    value, influence = auroc_with_influence(GIVEN.y[repeated], GOOD[repeated])
    honest = interval(value, influence, repeated, 0.95)
    naive = interval(value, influence, np.arange(repeated.size), 0.95)
    assert honest.high - honest.low == pytest.approx(2 * (naive.high - naive.low))


def test_observed_over_expected_with_interval():
    found = observed_expected(GIVEN.y, GOOD, GIVEN.patients, 0.95)
    drawn = measure_with_intervals(
        GIVEN.y, GOOD, clusters=GIVEN.patients, metrics=("observed_expected",), replicates=800
    )["observed_expected"]
    assert found.value == pytest.approx(drawn.value)
    assert (found.low, found.high) == (pytest.approx(drawn.ci_low, abs=0.03), pytest.approx(drawn.ci_high, abs=0.03))
    assert observed_expected(np.zeros(5), np.full(5, 0.1), np.arange(5), 0.95).value is None
    assert observed_expected(np.ones(5), np.zeros(5), np.arange(5), 0.95).value is None


def test_a_group_is_judged_from_enough_rows_and_both_outcomes_on():
    events = int(GIVEN.y[:100].sum())
    needs = {"subgroup_min_rows": 100, "subgroup_min_events": events}
    enough = msgspec.structs.replace(ACCEPTANCE, **needs)
    assert judge({"sex": levels(a=100)}, acceptance=enough)["sex=a"].judged
    for name, needed in needs.items():
        more = msgspec.structs.replace(ACCEPTANCE, **{**needs, name: needed + 1})
        assert not judge({"sex": levels(a=100)}, acceptance=more)["sex=a"].judged


def test_a_group_without_readmissions_is_never_judged():
    calm = np.where(GIVEN.y == 0, "calm", "other")
    none_needed = msgspec.structs.replace(ACCEPTANCE, subgroup_min_rows=0, subgroup_min_events=0)
    assert not judge({"sex": calm.tolist()}, acceptance=none_needed)["sex=calm"].judged


def test_small_numbers_are_hidden_and_cannot_be_subtracted():
    found = judge({"payer": levels(a=10, b=11, c=200)})
    assert {name: group.rows for name, group in found.items()} == {
        "payer=a": None,
        "payer=b": None,  # the next smallest hides with it
        "payer=c": 200,
        "payer=other": GIVEN.y.size - 221,
    }
    two = judge({"payer": levels(a=10, b=5, c=200)})
    assert (two["payer=a"].rows, two["payer=b"].rows, two["payer=c"].rows) == (None, None, 200)
    few = judge({"payer": levels(a=3, b=4, c=200)})
    assert [few[f"payer={level}"].rows for level in "abc"] == [None, None, None], "seven together are few as well"
    assert judge({"payer": levels(a=11)})["payer=a"].rows == 11
    hidden_with_it = judge({"payer": levels(a=10)})["payer=other"]
    assert (hidden_with_it.rows, hidden_with_it.judged) == (None, True)
    other_attribute = judge({"payer": levels(a=10), "sex": levels(x=500)})
    assert other_attribute["sex=x"].rows == 500


def test_a_rare_word_of_free_text_is_not_named():
    found = judge({"race": levels(misplaced=10, rarer=1, white=500)})
    assert {name: group.rows for name, group in found.items()} == {
        "race=other": GIVEN.y.size - 500,
        "race=white": 500,
    }


def test_order_is_that_of_names():
    found = judge({"sex": levels(b=900, a=900), "payer": levels(z=1000)})
    assert list(found) == ["payer=other", "payer=z", "sex=a", "sex=b", "sex=other"]


def test_a_group_that_is_everybody_has_no_gap():
    found = judge({"sex": ["all"] * GIVEN.y.size})["sex=all"]
    assert (found.discrimination_gap.value, found.discrimination_gap.high) == (0.0, 0.0)


@pytest.mark.parametrize("few", [2, 8])
def test_a_handful_of_others_says_nothing_about_a_group(few):
    for start in range(0, 400, few):
        sexes = np.full(GIVEN.y.size, "all", dtype=object)
        sexes[start : start + few] = "unknown"
        assert judge({"sex": sexes})["sex=all"].discrimination_gap.high == 0.0


def test_the_others_are_compared_with_from_enough_rows_and_both_outcomes_on():
    events = int(GIVEN.y[:100].sum())
    for needed, compared in ((events, True), (events + 1, False)):
        acceptance = msgspec.structs.replace(ACCEPTANCE, subgroup_min_rows=100, subgroup_min_events=needed)
        gap = judge({"sex": levels(a=100)}, acceptance=acceptance)["sex=other"].discrimination_gap
        assert (gap.low < gap.high) is compared


def test_change_needs_an_incumbent():
    assert judge({"sex": levels(a=1000)})["sex=a"].change.value is None
    assert judge({"sex": levels(a=1000)}, incumbent=GIVEN.model(0))["sex=a"].change.value > 0


def test_harm_shows_in_its_group_only():
    group = np.asarray(levels(a=1200), dtype=object) == "a"
    harmed = np.where(group, sigmoid(-logit(GOOD)), GOOD)
    found = judge({"sex": levels(a=1200)}, p=harmed, incumbent=GOOD)
    assert found["sex=a"].change.high < -0.1
    assert found["sex=a"].discrimination_gap.high < -0.1
    assert found["sex=other"].change.value == 0
    low = judge({"sex": levels(a=1200)}, p=np.where(group, GOOD / 3, GOOD))
    assert low["sex=a"].observed_expected.low > 2
    assert low["sex=other"].observed_expected.low < 1.2


def test_intervals_widen_with_the_number_of_groups():
    one = judge({"sex": levels(a=1200)})["sex=a"].observed_expected
    many = judge({"sex": levels(a=1200), "payer": levels(b=600, c=600, d=600)})["sex=a"].observed_expected
    assert many.high - many.low > 1.1 * (one.high - one.low)
