"""The stay itself: what its administrative record says at the discharge."""

from __future__ import annotations

from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Part

# Stays longer than this are alike for the outcome; the cap keeps a linear model from drifting with rare long ones.
LENGTH_CAP_DAYS = 60

LENGTH_OF_STAY_DAYS = "greatest(date_diff('day', s.admitted_at::DATE, s.discharged_at::DATE), 0)"


def _feature(name: str, kind: Kind, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "stay", "silver.admissions", "this stay", "discharged_at", unit)


_FEATURES = (
    _feature(
        "length_of_stay_days",
        "numeric",
        f"least({LENGTH_OF_STAY_DAYS}, {LENGTH_CAP_DAYS})",
        f"nights in hospital, at most {LENGTH_CAP_DAYS}",
        "days",
    ),
    _feature(
        "length_of_stay_log",
        "numeric",
        f"ln(1 + least({LENGTH_OF_STAY_DAYS}, {LENGTH_CAP_DAYS}))",
        "nights in hospital, natural log of 1 + nights",
    ),
    _feature("admission_type", "categorical", "s.admission_type", "urgency of the admission"),
    _feature("admission_source", "categorical", "s.admission_source", "where the patient came from"),
    _feature("discharge_disposition", "categorical", "s.discharge_disposition", "where the patient goes"),
    _feature("service", "categorical", "s.service", "specialty that was in charge"),
    _feature("payer", "categorical", "s.payer", "who pays"),
    _feature("drg", "categorical", "s.drg", "diagnosis related group of the stay"),
    _feature("is_planned", "boolean", "s.is_planned", "the stay was planned"),
    _feature("is_weekend_discharge", "boolean", "isodow(s.discharged_at) >= 6", "discharged on a Saturday or Sunday"),
    _feature(
        "discharge_season",
        "categorical",
        "CASE WHEN month(s.discharged_at) IN (12, 1, 2) THEN 'winter' WHEN month(s.discharged_at) <= 5 THEN 'spring'"
        " WHEN month(s.discharged_at) <= 8 THEN 'summer' ELSE 'autumn' END",
        "season of the discharge (northern hemisphere)",
    ),
)

PART = Part(_FEATURES, lambda _: {}, ())
