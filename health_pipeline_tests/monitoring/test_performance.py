from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from health_pipeline.cohort.tables import LABELS
from health_pipeline.modeling.calibration import Calibration
from health_pipeline.modeling.metrics import Estimate, measure
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import PERFORMANCE, performance_months
from health_pipeline.monitoring.estimation import expected_performance
from health_pipeline.monitoring.figures import draw_month
from health_pipeline.monitoring.limits import judge
from health_pipeline.monitoring.performance_rows import estimated_rows, realised_rows
from health_pipeline.monitoring.scored import Scored
from health_pipeline.monitoring.windows import performance_reads
from health_pipeline.months import Month, MonthRange, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline_tests.monitoring.conftest import MONTHS, Hospital, hospital, rewrite
from health_pipeline_tests.monitoring.test_patient_sample import scored

SEPTEMBER = parse_month("2021-09")
Row = dict[str, Any]


def performance(found: Hospital, months: MonthRange = MONTHS) -> pa.Table:
    return performance_months(found.warehouse, **found.outcomes, months=months, settings=found.settings)


def rows_where(table: pa.Table, **wanted: Any) -> list[Row]:
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


CHAMPION_ALL = {"model_role": "champion", "segment": "all"}


@pytest.fixture(scope="module")
def table(stable: Hospital, module_features: None) -> pa.Table:
    return performance(stable)


def test_a_range_gives_the_rows_of_single_months(stable: Hospital, table: pa.Table) -> None:
    single = [performance(stable, MonthRange(month, month)) for month in MONTHS]
    assert table.equals(pa.concat_tables(single))
    stable.warehouse.replace(PERFORMANCE, MONTHS, table)


def test_what_the_graph_says_is_read_is_what_is_read(tmp_path: Path) -> None:
    short = {"training_months": 2, "min_training_months": 2, "validation_months": 1, "holdout_months": 1}
    found = hospital(tmp_path, windows=short)
    last = found.labels.months.last
    month = MonthRange(last, last)
    rows = performance(found, month)
    oldest = shift(last, -performance_reads(found.settings))

    def without(until: Month) -> pa.Table:
        with found.warehouse.write("test") as connection:
            for table in ("gold.predictions", "gold.labels"):
                connection.execute(f"DELETE FROM {table} WHERE month <= DATE '{until}'")
        return performance(found, month)

    assert without(shift(oldest, -1)).equals(rows)
    assert not without(oldest).equals(rows)


def test_a_champion_of_many_months_is_measured_against_what_the_gates_accepted(tmp_path: Path) -> None:
    short = {"training_months": 2, "min_training_months": 2, "validation_months": 1, "holdout_months": 1}
    found = hospital(tmp_path, windows=short)
    accepted = found.champion.months.first
    last = found.predictions.months.last
    assert accepted < shift(last, -16)
    metrics = '{"roc_auc": {"value": 0.76, "n": 900}, "brier": {"value": 0.14, "n": 900}}'
    judged_anew = '{"roc_auc": {"value": 0.5, "n": 900}}'
    chosen = f"CASE WHEN month = DATE '{accepted}' THEN '{metrics}' ELSE '{judged_anew}' END AS metrics"
    rewrite(found, CHAMPION, found.champion.months, f"SELECT * REPLACE ({chosen}) FROM {found.champion}")
    months = MonthRange(accepted, last)
    of_the_range = rows_where(performance(found, months), month=last)
    of_the_month = performance(found, MonthRange(last, last)).to_pylist()
    assert of_the_month == of_the_range
    limits = {row["metric"]: row["threshold"] for row in of_the_month if row["segment"] == "all"}
    assert limits["roc_auc"] == pytest.approx(0.7, abs=0.05)
    assert limits["brier"] == pytest.approx(0.17, abs=0.02)


def test_a_window_of_two_champions_is_held_against_what_both_promised(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    newer = f"(month >= DATE '{SEPTEMBER}')"
    value = f"CASE WHEN {newer} THEN '0.9' ELSE '0.6' END"
    promised = f"""'{{"roc_auc": {{"value": ' || {value} || ', "n": 900}}}}' AS metrics"""
    decided = f"CASE WHEN month = DATE '{SEPTEMBER}' THEN 'DEPLOY_REFRESH' ELSE decision END AS decision"
    model = f"CASE WHEN {newer} THEN 'b' ELSE 'a' END AS model_id"
    months = found.champion.months
    rewrite(found, CHAMPION, months, f"SELECT * REPLACE ({model}, {promised}, {decided}) FROM {found.champion}")
    rewrite(found, PREDICTIONS, months, f"SELECT * REPLACE ({model}) FROM {found.predictions}")
    rows = performance(found, MonthRange(SEPTEMBER, SEPTEMBER))
    auc = {
        row["window_months"]: row
        for row in rows_where(rows, kind="realised", metric="roc_auc", **CHAMPION_ALL)
        if row["value"] is not None
    }
    promise = {
        window: row["threshold"] + max(0.02, NormalDist().inv_cdf(0.99) * (row["ci_high"] - row["ci_low"]) / 3.92)
        for window, row in auc.items()
    }
    with found.warehouse.read("test") as connection:
        stays = dict(
            connection.execute(
                f"SELECT p.month, count(*) FROM {found.predictions} p JOIN {found.labels} USING (month, encounter_id) "
                "WHERE model_role = 'champion' GROUP BY ALL"
            ).fetchall()
        )
    last_three = [stays[shift(SEPTEMBER, -back)] for back in (2, 1, 0)]
    assert promise[1] == pytest.approx(0.9)
    assert promise[3] == pytest.approx(np.average([0.6, 0.6, 0.9], weights=last_three))


def test_groups_are_not_held_against_what_depends_on_their_own_risk(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    metrics = '{"roc_auc": {"value": 0.76, "n": 900}, "brier": {"value": 0.01, "n": 900}}'
    rewrite(found, CHAMPION, found.champion.months, f"SELECT * REPLACE ('{metrics}' AS metrics) FROM {found.champion}")
    table = performance(found, MonthRange(SEPTEMBER, SEPTEMBER))
    rows = rows_where(table, model_role="champion", kind="realised", window_months=3)
    known = [row for row in rows if row["value"] is not None and row["metric"] in {"roc_auc", "brier"}]
    judged = {(row["metric"], row["segment"] == "all"): row["threshold"] is not None for row in known}
    assert judged == {("roc_auc", True): True, ("roc_auc", False): True, ("brier", True): True, ("brier", False): False}


def test_realised_numbers_are_those_of_the_rows(stable: Hospital, table: pa.Table) -> None:
    month = MonthRange(SEPTEMBER, SEPTEMBER)
    with stable.warehouse.read("test") as connection:
        rows = connection.execute(
            f"SELECT probability, readmitted_30d::INT FROM {stable.predictions.only(month)} "
            f"JOIN {stable.labels.only(month)} USING (month, encounter_id) WHERE model_role = 'champion'"
        ).fetchall()
    p, y = np.array(rows).T
    expected = measure(y, p, threshold=0.3)
    found = {
        row["metric"]: row
        for row in rows_where(table, month=SEPTEMBER, kind="realised", window_months=1, **CHAMPION_ALL)
    }
    assert set(found) == set(expected)
    for name, row in found.items():
        assert row["value"] == pytest.approx(expected[name]), name
        assert row["ci_low"] <= row["value"] <= row["ci_high"], name
        assert row["n"] == len(rows)


def test_windows_pool_months(table: pa.Table) -> None:
    sizes = {
        row["window_months"]: row["n"]
        for row in rows_where(table, month=SEPTEMBER, kind="realised", metric="roc_auc", **CHAMPION_ALL)
    }
    assert sorted(sizes) == [1, 3, 6, 12]
    assert sizes[1] < sizes[3] < sizes[6]
    (short,) = rows_where(table, month=SEPTEMBER, window_months=12, metric="roc_auc", **CHAMPION_ALL)
    assert (short["status"], short["value"]) == ("no_data", None), "only ten months were scored"


@pytest.mark.parametrize("windows", [[6], [6, 1, 6, 3]])
def test_the_windows_that_checks_judge_are_always_measured(stable: Hospital, windows: list[int]) -> None:
    knobs = stable.settings.monitoring.model_copy(update={"rolling_months": tuple(windows)})
    one = MonthRange(SEPTEMBER, SEPTEMBER)
    table = performance_months(
        stable.warehouse,
        **stable.outcomes,
        months=one,
        settings=stable.settings.model_copy(update={"monitoring": knobs}),
    )
    rows = rows_where(table, kind="realised", metric="roc_auc", **CHAMPION_ALL)
    assert [row["window_months"] for row in rows] == [1, 3, 6]
    assert rows_where(table, kind="reconciliation")


def test_the_estimate_is_near_the_outcome_on_stable_data(table: pa.Table) -> None:
    gaps = [row["value"] for row in rows_where(table, kind="reconciliation", metric="roc_auc", **CHAMPION_ALL)]
    assert len(gaps) == len(MONTHS)
    assert abs(np.mean(gaps)) < 0.03, "one month of 400 rows is off by chance, their mean is not"
    for row in rows_where(table, kind="reconciliation", metric="roc_auc", **CHAMPION_ALL):
        estimated, realised = (
            rows_where(table, month=row["month"], kind=kind, window_months=1, metric="roc_auc", **CHAMPION_ALL)[0]
            for kind in ("estimated", "realised")
        )
        assert row["value"] == pytest.approx(estimated["value"] - realised["value"])


def test_the_estimate_of_equal_scores_promises_no_ranking() -> None:
    p = np.round(np.random.default_rng(5).beta(2, 8, 4000), 1).clip(0.05)
    nobody = np.full(p.size, np.nan)
    rows = Scored(nobody, pd.Categorical(nobody), np.arange(p.size, dtype=np.uint64), p, p >= 0.3, nobody, {}, {})
    found = expected_performance(rows, Calibration(), 50, 1, ("top_decile_precision", "top_decile_lift"))
    drawn = [measure(y, p) for y in np.random.default_rng(6).random((200, p.size)) < p]
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(np.mean([each[name] for each in drawn]), rel=0.02), name


def test_estimates_exist_before_labels_and_do_not_change_when_they_come(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(SEPTEMBER, SEPTEMBER)
    with_labels = performance(found, month)
    later = MonthRange(SEPTEMBER, found.labels.months.last)
    rewrite(found, LABELS, later, f"SELECT * FROM {found.labels.only(later)} WHERE false")
    without = performance(found, month)
    assert {row["kind"] for row in without.to_pylist()} == {"estimated"}
    assert without.to_pylist() == rows_where(with_labels, kind="estimated")


def test_later_months_are_not_seen(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(SEPTEMBER, SEPTEMBER)
    before = performance(found, month)
    later = MonthRange(shift(SEPTEMBER, 1), found.predictions.months.last)
    rewrite(
        found,
        PREDICTIONS,
        later,
        f"SELECT * REPLACE (1 - probability AS probability) FROM {found.predictions.only(later)}",
    )
    rewrite(
        found,
        LABELS,
        MonthRange(later.first, found.labels.months.last),
        f"SELECT * REPLACE (NOT readmitted_30d AS readmitted_30d) FROM {found.labels.only(later)}",
    )
    assert performance(found, month).equals(before)


def test_a_changed_concept_is_found_in_the_first_matured_month(tmp_path: Path) -> None:
    def reversed_risk(columns: Row, random: np.random.Generator) -> None:
        columns["true_score"] = -0.5 * columns["number_0"]

    table = performance(hospital(tmp_path, {SEPTEMBER: reversed_risk}))
    for month, expected in ((shift(SEPTEMBER, -1), {"ok", "warning"}), (SEPTEMBER, {"alarm"})):
        (row,) = rows_where(table, month=month, kind="realised", window_months=1, metric="roc_auc", **CHAMPION_ALL)
        assert row["status"] in expected
    (gap,) = rows_where(table, month=SEPTEMBER, kind="reconciliation", metric="roc_auc", **CHAMPION_ALL)
    assert gap["status"] == "warning"
    assert gap["ci_low"] > 0


def hidden_rows(table: pa.Table) -> dict[tuple[Any, ...], int]:
    """Rows that no shown group of a characteristic holds, by kind, window, metric and characteristic."""
    names = ("month", "model_role", "kind", "window_months", "metric")
    everybody = {tuple(row[name] for name in names): row["n"] for row in rows_where(table, segment="all")}
    rest: dict[tuple[Any, ...], int] = {}
    for row in [*rows_where(table, kind="estimated"), *rows_where(table, kind="realised")]:
        key, characteristic = tuple(row[name] for name in names), row["segment"].partition("=")[0]
        if characteristic != "all" and everybody[key]:
            whole = (*key, characteristic)
            rest[whole] = rest.get(whole, everybody[key]) - (row["n"] or 0)
    return rest


def test_small_groups_are_suppressed(tmp_path: Path) -> None:
    def rare_payer(columns: Row, random: np.random.Generator) -> None:
        columns["payer"] = np.where(np.arange(columns["payer"].size) < 9, "rare", columns["payer"])

    found = hospital(tmp_path, {parse_month("2020-01"): rare_payer})
    table = performance(found, MonthRange(SEPTEMBER, SEPTEMBER))
    rare = rows_where(table, segment="payer=rare")
    assert {row["kind"] for row in rare} == {"estimated", "realised"}
    for row in rare:
        assert (row["value"], row["n"], row["ci_low"], row["status"]) == (None, None, None, "no_data")
    for row in table.to_pylist():
        assert row["n"] in {None, 0} or row["n"] >= found.settings.privacy.small_number
    assert any(row["value"] is not None for row in rows_where(table, segment="sex=female"))
    # What is hidden cannot be found as the rest either: a further payer is hidden where the rare one would be left.
    small = found.settings.privacy.small_number
    for key, rest in hidden_rows(table).items():
        assert rest == 0 or rest >= small, key


def test_a_rare_word_of_free_text_is_not_named() -> None:
    window = Settings().monitoring.performance_window
    known = scored(400, MonthRange(shift(SEPTEMBER, 1 - window), SEPTEMBER))
    words = np.array(["white"] * (len(known) - 21) + ["rare"] * 11 + ["misplaced"] * 10, dtype=object)
    rows = replace(known, segments={"race": pd.Categorical(words), "payer": pd.Categorical(words)})
    found = [*realised_rows(rows, SEPTEMBER, window, {}, Settings()), *estimated_rows(rows, SEPTEMBER, {}, Settings())]
    for kind in ("realised", "estimated"):
        named = {row["segment"] for row in found if row["kind"] == kind} - {"all"}
        assert {segment for segment in named if segment.startswith("race=")} == {
            "race=other",
            "race=rare",
            "race=white",
        }
        assert "payer=misplaced" in named, "a word of the contract's vocabulary tells nothing"


def test_a_month_without_any_readmission_has_no_discrimination_to_compare(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    one = MonthRange(SEPTEMBER, SEPTEMBER)
    rewrite(found, LABELS, one, f"SELECT * REPLACE (false AS readmitted_30d) FROM {found.labels.only(one)}")
    table = performance(found, one)
    for kind in ("realised", "reconciliation"):
        (row,) = rows_where(table, kind=kind, metric="roc_auc", window_months=1, **CHAMPION_ALL)
        assert (row["value"], row["status"]) == (None, "no_data"), kind
    (row,) = rows_where(table, kind="reconciliation", metric="observed_expected", window_months=1, **CHAMPION_ALL)
    assert row["status"] == "warning"
    found.warehouse.replace(PERFORMANCE, one, table)
    page = draw_month(found.warehouse, SEPTEMBER, found.settings, png=False)[0].read_text("utf-8")
    assert "not matured" not in page


@pytest.mark.parametrize("scored", [1, 10])
def test_a_month_of_a_few_discharges_is_suppressed_and_not_an_error(tmp_path: Path, scored: int) -> None:
    found = hospital(tmp_path)
    one = MonthRange(SEPTEMBER, SEPTEMBER)
    few = f"QUALIFY row_number() OVER (PARTITION BY model_role ORDER BY encounter_id) <= {scored}"
    rewrite(found, PREDICTIONS, one, f"SELECT * FROM {found.predictions.only(one)} {few}")
    table = performance(found, one)
    alone = [row for row in rows_where(table, window_months=1, **CHAMPION_ALL) if row["kind"] != "concept"]
    assert {row["kind"] for row in alone} == {"estimated", "realised", "reconciliation"}
    for row in alone:
        assert (row["value"], row["ci_low"], row["n"], row["status"]) == (None, None, None, "no_data")
    (pooled,) = rows_where(table, kind="realised", window_months=3, metric="roc_auc", **CHAMPION_ALL)
    assert pooled["value"] is not None
    found.warehouse.replace(PERFORMANCE, one, table)
    assert draw_month(found.warehouse, SEPTEMBER, found.settings, png=False)


def test_no_predictions_is_no_data(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(SEPTEMBER, SEPTEMBER)
    rewrite(found, PREDICTIONS, month, f"SELECT * FROM {found.predictions} WHERE false")
    (row,) = performance(found, month).to_pylist()
    assert (row["status"], row["value"], row["n"]) == ("no_data", None, 0)


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, value - half, value + half, 1000)


@pytest.mark.parametrize(
    ("metric", "value", "half", "baseline", "status"),
    [
        ("roc_auc", 0.75, 0.02, 0.76, "ok"),
        ("roc_auc", 0.72, 0.02, 0.76, "warning"),
        ("roc_auc", 0.66, 0.02, 0.76, "alarm"),
        ("roc_auc", 0.66, 0.10, 0.76, "ok"),
        ("roc_auc", 0.90, 0.02, 0.76, "ok"),
        ("roc_auc", 0.75, 0.02, None, "no_data"),
        ("brier", 0.16, 0.01, 0.13, "warning"),
        ("brier", 0.10, 0.01, 0.13, "ok"),
        ("observed_expected", 1.05, 0.05, None, "ok"),
        ("observed_expected", 1.25, 0.08, None, "warning"),
        ("observed_expected", 0.60, 0.05, None, "alarm"),
        ("observed_expected", 0.0, 0.05, None, "alarm"),
        ("calibration_slope", 1.1, 0.1, None, "ok"),
        ("calibration_slope", 0.3, 0.1, None, "alarm"),
        ("calibration_intercept", float("nan"), 0.1, None, "no_data"),
    ],
)
def test_limits(metric: str, value: float, half: float, baseline: float | None, status: str) -> None:
    known = None if baseline is None else estimate(baseline)
    assert judge(metric, estimate(value, half), known)[1] == status


def test_one_of_many_groups_has_to_depart_further() -> None:
    departed = estimate(0.70, 0.04)
    assert judge("roc_auc", departed, estimate(0.76), groups=1)[1] == "warning"
    assert judge("roc_auc", departed, estimate(0.76), groups=20)[1] == "ok"
    assert judge("roc_auc", estimate(0.60, 0.04), estimate(0.76), groups=20)[1] == "alarm"
    assert judge("observed_expected", estimate(1.25, 0.18), None, groups=1)[1] == "warning"
    assert judge("observed_expected", estimate(1.25, 0.18), None, groups=20)[1] == "ok"
