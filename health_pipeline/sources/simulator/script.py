"""The script of drift: what changes in the simulated hospital, when, and what monitoring should say.

Months are counted from the hospital's start (month 0 = ``settings.start_month``), so that a demonstration of 36 months
shows every event. ``settings.simulator.drift = false`` plays none of them. ``docs/simulator.md`` holds the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["covariate shift", "coding change", "unit change", "concept change"]

NORMAL: Mapping[str, float] = {
    "nursing_home_share": 0.0,  # additional admissions of old patients from nursing homes, share of the normal volume
    "new_codes": 0.0,  # 1: the new coding system is in use
    "urea_factor": 1.0,  # what the laboratory multiplies urea nitrogen (mg/dL) with before it is landed
    "frequent_use_risk": 0.0,  # added to the log odds for each unit of log(1 + stays in the year before)
    "heart_failure_risk": 0.0,  # added to the log odds of readmission of patients with heart failure
    "home_health_risk": 0.0,  # added to the log odds after a discharge to home health or skilled nursing
}
"""Every knob of the hospital that the script can turn, with its value before any event."""


@dataclass(frozen=True)
class DriftEvent:
    """One event of the script.

    Attributes:
        month: months after the hospital's start from which it holds.
        what: what happens in the hospital.
        expected: what monitoring should show, and what should not move.
        effects: knobs of :data:`NORMAL` that take another value from then on.
    """

    name: str
    month: int
    kind: Kind
    what: str
    expected: str
    effects: Mapping[str, float] = field(default_factory=dict)


SCRIPT: tuple[DriftEvent, ...] = (
    DriftEvent(
        name="nursing_home_contract",
        month=20,
        kind="covariate shift",
        what="A contract with nursing homes brings 20 % more admissions, of patients over 75 from skilled nursing.",
        expected="Drift of age, admission source and volume; the model stays calibrated; realised AUROC falls, "
        "0.772 to 0.747.",
        effects={"nursing_home_share": 0.20},
    ),
    DriftEvent(
        name="new_coding_system",
        month=24,
        kind="coding change",
        what="A new patient administration system: service lines have other names, unspecified heart failure and COPD "
        "codes (I50.9, J44.9) become specific ones (I50.32, J44.89).",
        expected="Unseen categories of service; comorbidity groups by code prefix must not move.",
        effects={"new_codes": 1.0},
    ),
    DriftEvent(
        name="urea_unit",
        month=28,
        kind="unit change",
        what="The laboratory reports urea nitrogen in mmol/L, but the extract still says mg/dL: values fall to 0.357 "
        "of what they were, all of them possible.",
        expected="Strong drift of the urea nitrogen features and no quarantine; risk is underestimated a little.",
        effects={"urea_factor": 0.357},
    ),
    DriftEvent(
        name="case_management",
        month=30,
        kind="concept change",
        what="Case managers look after frequent attenders and patients with heart failure, whose odds of "
        "readmission fall; home health and nursing homes lose half their staff, and the same patients now do much "
        "worse there.",
        expected="No drift of any feature at first: without labels a concept change cannot be seen. When the first "
        "month's outcomes are known, concept_holds alarms and names disposition or heart failure.",
        effects={"frequent_use_risk": -0.55, "heart_failure_risk": -1.0, "home_health_risk": 1.7},
    ),
)


def effects_at(month: int, drift: bool) -> dict[str, float]:
    """Value of every knob in a month.

    Args:
        month: months after the hospital's start; negative before it.
        drift: whether the script is played.
    """
    effects = dict(NORMAL)
    if drift:
        for event in SCRIPT:
            if month >= event.month:
                effects.update(event.effects)
    return effects
