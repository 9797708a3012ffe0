from __future__ import annotations

import datetime as dt
import json

import pytest

from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import MonthRange
from health_pipeline.promotion import CHAMPION, CHECKS
from health_pipeline.promotion.criteria import RULES
from health_pipeline_tests.promotion.history import FAMILIES, candidate_row, run, settings_in, write_candidates

CHECK = {check.name: check for check in CHECKS}
MONTHS = MonthRange.of("2022-07", "2022-12")


def passed(name, warehouse, settings, months=MONTHS):
    return [verdict.passed for verdict in CHECK[name].evaluate(warehouse, months, settings)]


def verdict(name, warehouse, settings, month="2022-09"):
    return CHECK[name].evaluate(warehouse, MonthRange.of(month), settings)[0]


def tamper(warehouse, rows, month, **changes):
    """Change a stored row as nobody should."""
    index = next(index for index, row in enumerate(rows) if f"{row['month']:%Y-%m}" == month)
    changed = {**rows[index], **changes}
    warehouse.replace(CHAMPION, MonthRange.of(month), arrow_rows(CHAMPION, [changed]))


def test_names_are_unique_and_guard_the_champion():
    assert len(CHECK) == len(CHECKS) == len(RULES) + 5
    assert {check.table for check in CHECKS} == {"models.champion"}
    assert all(check.description.endswith(".") for check in CHECKS)


def test_what_blocks():
    assert {name for name, check in CHECK.items() if not check.blocking} == {
        "staleness",
        "champion_in_force",
        "near_misses",
        "policy_current",
    }


def test_every_check_gives_one_verdict_a_month(warehouse, settings, rows):
    for check in CHECKS:
        verdicts = check.evaluate(warehouse, MONTHS, settings)
        assert [item.month for item in verdicts] == list(MONTHS), check.name
        assert all(item.passed or item.severity == "WARN" for item in verdicts), check.name  # nothing blocks here


def test_improvement_gate_follows_the_decision(warehouse, settings, rows):
    # INITIAL: does not apply; SKIP, DEPLOY, SKIP, SKIP; DEPLOY_REFRESH does not need it
    assert passed("improvement", warehouse, settings) == [True, False, True, False, False, True]
    refused = verdict("improvement", warehouse, settings, "2022-08")
    assert refused.severity == "WARN"
    assert refused.summary.startswith("challenger refused: roc_auc gain 0.0000")
    assert refused.numbers == {
        "decision": "SKIP",
        "value": 0.0,
        "threshold": 0.02,
        "near_miss": False,
        "holdout_rows": 2100,
    }
    assert verdict("improvement", warehouse, settings, "2022-12").summary.startswith("not needed for DEPLOY_REFRESH: ")


def test_staleness_gate_warns_when_an_old_model_stays(warehouse, settings, rows):
    assert passed("staleness", warehouse, settings) == [True] * 6
    strict = settings_in(settings.home, max_days_since_update=30, max_degradation=0.0)  # nothing can refresh
    run(warehouse, strict, "2022-07", "2022-12")
    assert passed("staleness", warehouse, strict) == [True, False, True, True, False, False]
    stale = verdict("staleness", warehouse, strict, "2022-08")
    assert stale.severity == "WARN"
    assert stale.summary.startswith("a stale champion stays in force: the incumbent is 31 days old")


def test_a_promotion_against_a_criterion_blocks(warehouse, settings, rows):
    tamper(warehouse, rows, "2022-08", decision="DEPLOY", model_id=rows[1]["challenger_id"])
    blocked = verdict("improvement", warehouse, settings, "2022-08")
    assert not blocked.passed
    assert blocked.severity == "ERROR"
    assert blocked.summary.startswith("DEPLOY in spite of: ")
    record = verdict("decision_record", warehouse, settings, "2022-08")
    assert not record.passed
    assert record.severity == "ERROR"
    assert "the evidence gives SKIP, stored is DEPLOY" in record.summary


def test_a_forced_promotion_warns(warehouse, settings):
    forced = settings_in(settings.home, force_deployment=True, forced_by="A. Person", force_reason="recall")
    run(warehouse, forced, "2022-07", "2022-08")
    found = verdict("improvement", warehouse, forced, "2022-08")
    assert (found.passed, found.severity) == (False, "WARN")
    assert found.summary.startswith("overridden by an order: ")
    assert verdict("decision_record", warehouse, forced, "2022-08").passed


def test_record_is_sound_when_untouched(warehouse, settings, rows):
    assert passed("decision_record", warehouse, settings) == [True] * 6
    assert verdict("decision_record", warehouse, settings).summary == "DEPLOY follows from its evidence"


@pytest.mark.parametrize(
    ("month", "changes", "complaint"),
    [
        ("2022-09", {"criteria": "[]"}, "the stored criteria are not those of the evidence"),
        ("2022-09", {"model_id": "other"}, "in force is other, the decision puts xgboost@202209:012 in force"),
        ("2022-10", {"model_id": "other"}, "in force is other, the decision puts xgboost@202209:012 in force"),
        ("2022-09", {"incumbent_id": "other"}, "the incumbent is other, champion of the month before is"),
        ("2022-07", {"incumbent_id": "other"}, "the incumbent is other, champion of the month before is None"),
    ],
)
def test_a_changed_row_blocks(warehouse, settings, rows, month, changes, complaint):
    tamper(warehouse, rows, month, **changes)
    found = verdict("decision_record", warehouse, settings, month)
    assert (found.passed, found.severity) == (False, "ERROR")
    assert complaint in found.summary


def test_a_gap_in_the_history_blocks(warehouse, settings, rows):
    warehouse.replace(CHAMPION, MonthRange.of("2022-08"), arrow_rows(CHAMPION, []))
    assert passed("decision_record", warehouse, settings) == [True, False, False, True, True, True]
    assert "the month before has no decision" in verdict("decision_record", warehouse, settings).summary
    missing = verdict("improvement", warehouse, settings, "2022-08")
    assert (missing.passed, missing.severity, missing.summary) == (False, "ERROR", "no decision was taken")


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"evidence": {}, "policy": {}}'])
def test_unreadable_evidence_blocks_every_gate(warehouse, settings, rows, text):
    tamper(warehouse, rows, "2022-09", evidence=text)
    for name in ("improvement", "decision_record", "champion_leak", "near_misses", "champion_in_force"):
        found = verdict(name, warehouse, settings)
        assert (found.passed, found.severity) == (False, "ERROR")
        assert found.summary.startswith("the stored evidence cannot be read (")


def test_a_leaky_champion_blocks_a_leaky_challenger_warns(warehouse, settings, rows):
    assert passed("champion_leak", warehouse, settings) == [True] * 6
    metrics = json.loads(rows[2]["metrics"])
    for value, fine in ((0.8501, False), (0.85, True), (None, True)):
        metrics["roc_auc"]["value"] = value
        tamper(warehouse, rows, "2022-09", metrics=json.dumps(metrics))
        found = verdict("champion_leak", warehouse, settings)
        assert found.passed is fine
        assert found.severity == "ERROR"
        said = "not measured" if value is None else f"AUROC of the model in force is {value:.4f}, ceiling 0.85"
        assert found.summary == said
    tamper(warehouse, rows, "2022-09", metrics=None)
    assert verdict("champion_leak", warehouse, settings).passed


def test_no_model_in_force_warns(warehouse, settings):
    quick = [candidate_row(dt.date(2022, 7, 1), FAMILIES[0], profile="quick")]
    write_candidates(warehouse, FAMILIES[0], quick)
    run(warehouse, settings, "2022-07")
    found = verdict("champion_in_force", warehouse, settings, "2022-07")
    assert (found.passed, found.severity, found.summary) == (False, "WARN", "no model is in force")
    assert not verdict("profile", warehouse, settings, "2022-07").passed


def test_a_month_without_a_candidate_has_two_warnings(warehouse, settings):
    """Not one for each gate: thin data would drown whoever reads the alerts."""
    for family in FAMILIES:
        write_candidates(warehouse, family, [])
    run(warehouse, settings, "2022-07")
    failed = {name for name in CHECK if not verdict(name, warehouse, settings, "2022-07").passed}
    assert failed == {"candidate", "champion_in_force"}
    judged = verdict("calibration_slope", warehouse, settings, "2022-07").summary
    assert judged.startswith("nothing to judge without a candidate: ")


def test_near_misses_warn(warehouse, settings, rows):
    verdicts = CHECK["near_misses"].evaluate(warehouse, MONTHS, settings)
    assert {item.severity for item in verdicts} == {"WARN"}
    assert "significance" in verdicts[1].summary  # equal models: the lower bound is 0
    for item, row in zip(verdicts, rows, strict=True):
        near = [each["criterion"] for each in json.loads(row["criteria"]) if each["near_miss"]]
        assert item.passed is (not near)
        assert item.numbers == {"near_misses": len(near)}


def test_another_policy_than_todays_warns(warehouse, settings, rows):
    assert passed("policy_current", warehouse, settings) == [True] * 6
    today = settings_in(settings.home, max_days_since_update=62, improvement_threshold=0.03)
    found = verdict("policy_current", warehouse, today)
    assert (found.passed, found.severity) == (False, "WARN")
    assert found.summary == "decided under another improvement_threshold"


def test_nothing_decided_yet(warehouse, settings):
    assert passed("candidate", warehouse, settings) == [False] * 6
