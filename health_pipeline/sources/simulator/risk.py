"""The true probability of coming back within 30 days. It decides what happens and is never landed.

Its terms are those that the literature on readmission models names (LACE, HOSPITAL score, CMS-HWR): utilisation,
disease burden, length and urgency of the stay, laboratory values at discharge, disposition, medicines, and social
circumstances; plus interactions, which trees can find and a linear model cannot, and a latent frailty that
nobody can see, so that no honest model reaches the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from health_pipeline.sources.simulator.conditions import INDEX, RISK
from health_pipeline.sources.simulator.stay import DISPOSITIONS, Stays

_INTERCEPT = -3.86
_STRENGTH = 0.92
_BY_DISPOSITION = {"home_health": 0.20, "skilled_nursing": 0.28, "rehabilitation": 0.25, "long_term_care": 0.40,
                   "psychiatric": 0.20, "against_advice": 0.85, "hospice": -2.0}  # fmt: skip
_DISPOSITION_RISK = np.array([_BY_DISPOSITION.get(name, 0.0) for name in DISPOSITIONS], dtype=np.float32)
_STAFFED = [DISPOSITIONS.index("home_health"), DISPOSITIONS.index("skilled_nursing")]


def readmission_log_odds(stays: Stays, effects: Mapping[str, float]) -> np.ndarray:
    """Log odds of an unplanned readmission within 30 days of each discharge.

    Args:
        stays: stays with everything that is known at discharge.
        effects: what the drift script says for the month (:mod:`~health_pipeline.sources.simulator.script`).
    """
    has = stays.conditions
    heart_failure = has[:, INDEX["heart_failure"]]
    low_sodium = (136 - stays.sodium).clip(0, 12)
    urea = np.log(stays.urea / 15).clip(-1, 2.5)
    old = stays.age > 78
    burden = (
        0.70 * (has @ RISK)
        + 0.8 * stays.cause_risk
        + 0.36 * np.log1p(stays.prior_stays)
        + 0.22 * np.log1p(stays.prior_emergency)
        + 0.20 * np.log(stays.days + 1)
        + 0.25 * stays.is_urgent
        + 0.10 * ((stays.age - 65) / 10).clip(-3, 3)
        + 0.30 * urea
        + 0.10 * (12 - stays.haemoglobin).clip(-1, 5)
        + 0.03 * low_sodium
        + 0.25 * (3.6 - stays.albumin).clip(-0.6, 2)
        + 0.025 * (stays.drugs - 8).clip(-6, 10)
        + 0.18 * (stays.income < 45_000)
        + 0.12 * (stays.marital > 0)
        + 0.30 * stays.frailty
        + _DISPOSITION_RISK[stays.disposition]
        # interactions
        + 0.11 * low_sodium * heart_failure
        + 0.40 * heart_failure * has[:, INDEX["chronic_kidney_disease"]]
        + 0.10 * old * (stays.drugs - 9).clip(0, 8)
        + 0.90 * has[:, INDEX["substance_use"]] * has[:, INDEX["depression"]]
    )
    log_odds = (
        _INTERCEPT
        + _STRENGTH * burden
        + effects["frequent_use_risk"] * np.log1p(stays.prior_stays)
        + effects["heart_failure_risk"] * heart_failure
        + effects["home_health_risk"] * np.isin(stays.disposition, _STAFFED)
    )
    result: np.ndarray = log_odds.astype(np.float64)
    return result
