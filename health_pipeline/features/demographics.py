"""Demographics: the patient's newest record that was known at the discharge."""

from __future__ import annotations

from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part

_WINDOW = "newest record up to the discharge"


def _feature(name: str, kind: Kind, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "demographics", "silver.patients", _WINDOW, unit=unit)


_FEATURES = (
    _feature(
        "age_years",
        "numeric",
        "date_sub('year', demographic.known.birth_date, s.admitted_at::DATE)",
        "age at admission",
        "years",
    ),
    _feature("sex", "categorical", "demographic.known.sex", "sex"),
    _feature("race", "categorical", "demographic.known.race", "race"),
    _feature("ethnicity", "categorical", "demographic.known.ethnicity", "ethnicity"),
    _feature("language", "categorical", "demographic.known.language", "preferred language"),
    _feature("marital_status", "categorical", "demographic.known.marital_status", "marital status"),
    _feature(
        "income_log",
        "numeric",
        "CASE WHEN demographic.known.income >= 0 THEN ln(1 + demographic.known.income) END",
        "income, or that of the neighbourhood; natural log of 1 + amount",
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    # The whole record is compared after recorded_at and month, so that equal moments still give one answer.
    return {
        "demographic": f"""
    SELECT s.stay_id, max({{
        'recorded_at': p.recorded_at, 'month': p.month, 'birth_date': p.birth_date, 'sex': p.sex, 'race': p.race,
        'ethnicity': p.ethnicity, 'language': p.language, 'marital_status': p.marital_status, 'income': p.income
    }}) AS known
    FROM stay AS s
    JOIN {inputs.patients} AS p ON p.patient_key = s.patient_key
        AND p.recorded_at <= s.discharged_at AND p.month <= s.month
    GROUP BY s.stay_id"""
    }


PART = Part(_FEATURES, _ctes, ("demographic",))
