from __future__ import annotations

from importlib.resources import files

import pytest
from pydantic import ValidationError

from health_pipeline.errors import SettingsError
from health_pipeline.promotion.plan import load_plan
from health_pipeline.promotion.policy import policy_of
from health_pipeline.settings import PromotionSettings, Settings, WindowSettings

PLAN = load_plan()
TEXT = files("health_pipeline.promotion").joinpath("plan.toml").read_text("utf-8")


def test_defaults_keep_to_the_plan_of_the_package():
    assert PLAN.violations(Settings(), "xgboost") == ()
    assert PLAN.violations(Settings(), None) == ()
    assert PLAN.identity.version == "1.0"


def test_its_thresholds_reach_the_policy():
    policy = policy_of(Settings(), PLAN)
    assert policy.acceptance == PLAN.acceptance
    assert policy.plan_hash == PLAN.content_hash
    assert policy.profiles == ("standard", "thorough")
    assert len(policy.plan_hash) == 32


@pytest.mark.parametrize(
    ("knob", "allowed", "beyond"),
    [
        ("min_samples", 100, 99),
        ("confidence_level", 0.90, 0.89),
        ("bootstrap_replicates", 100, 99),
        ("max_degradation", 0.05, 0.051),
        ("leak_ceiling", 0.95, 0.96),
    ],
)
def test_settings_may_be_stricter_never_laxer(knob, allowed, beyond):
    assert PLAN.violations(Settings(promotion={knob: allowed}), "xgboost") == ()
    found = PLAN.violations(Settings(promotion={knob: beyond}), "xgboost")
    assert len(found) == 1
    assert found[0].startswith(f"{knob} is {beyond}, the plan allows no ")


def test_holdout_shorter_than_planned(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(TEXT.replace("holdout_months_at_least = 1", "holdout_months_at_least = 2"))
    plan = load_plan(path)
    assert plan.violations(Settings(windows=WindowSettings(holdout_months=2)), None) == ()
    assert plan.violations(Settings(windows=WindowSettings(holdout_months=1)), None) == (
        "holdout_months is 1, the plan allows no less than 2",
    )


def test_unknown_family():
    assert PLAN.violations(Settings(), "neural_network") == ("family neural_network is not one the plan lets change",)


def test_every_change_of_the_file_changes_the_hash(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(TEXT, "utf-8")
    assert load_plan(path).content_hash == PLAN.content_hash
    path.write_text(TEXT + "# approved\n", "utf-8")
    assert load_plan(path).content_hash != PLAN.content_hash


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[protocol]", "[protocoll]", "missing or unknown sections: protocol, protocoll"),
        ("subgroup_loss = 0.02", "subgroup_los = 0.02", "subgroup_los"),
        ("subgroup_loss = 0.02", 'subgroup_loss = "much"', "Expected `float`"),
        ("calibration_slope = [0.70, 1.40]", "calibration_slope = [0.70]", "length 2"),
        ("[plan]", "[plan", "Expected"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused(tmp_path, old, new, complaint):
    path = tmp_path / "plan.toml"
    path.write_text(TEXT.replace(old, new), "utf-8")
    with pytest.raises(SettingsError, match="change-control plan cannot be used") as caught:
        load_plan(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "HEALTH_PIPELINE_PROMOTION__PLAN" in str(caught.value)


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    "signed", [{}, {"forced_by": "A. Person"}, {"force_reason": "recall"}, {"forced_by": " ", "force_reason": "x"}]
)
def test_an_order_needs_who_and_why(signed):
    with pytest.raises(ValidationError, match="force_deployment needs forced_by and force_reason"):
        PromotionSettings(force_deployment=True, **signed)
    assert PromotionSettings(**signed).force_deployment is False


def test_a_signed_order_is_accepted():
    assert PromotionSettings(force_deployment=True, forced_by="A. Person", force_reason="recall").force_deployment
