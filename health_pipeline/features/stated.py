"""Counts that the source states itself (``SOURCE//...``) instead of handing over the events behind them."""

from __future__ import annotations

from health_pipeline.features.expressions import capped_log
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

_CODES = {
    "prior_inpatient": "prior_inpatient_1y",
    "prior_emergency": "prior_emergency_1y",
    "prior_outpatient": "prior_outpatient_1y",
    "lab_procedures": "lab_procedures",
    "procedures": "procedures",
    "medications": "medications",
    "diagnoses": "diagnoses",
    "medication_change": "medication_change",
    "diabetes_medication": "diabetes_medication",
}


def _feature(name: str, kind: Kind, sql: str, meaning: str) -> Feature:
    return Feature(name, kind, sql, meaning, "stated", "silver.clinical_events", "this stay")


_FEATURES = (
    _feature(
        "stated_lab_procedures_log",
        "numeric",
        capped_log("stated.lab_procedures", 120),
        "laboratory procedures as the source counts them; natural log of 1 + at most 120",
    ),
    _feature(
        "has_medication_change",
        "boolean",
        "stated.medication_change > 0",
        "the source says that medicines were changed",
    ),
    _feature(
        "has_diabetes_medication", "boolean", "stated.diabetes_medication > 0", "the source says: medicine for diabetes"
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    # Sources write -1 or -9999 where they do not know a count; what can be derived then holds.
    counts = ",\n        ".join(
        f"max(e.numeric_value) FILTER (e.code = '{code}' AND e.numeric_value >= 0) AS {name}"
        for name, code in _CODES.items()
    )
    return {
        "stated": f"""
    SELECT s.stay_id,
        {counts}
    FROM stay AS s
    JOIN {inputs.events} AS e ON {visible("e")} AND e.encounter_id = s.encounter_id
    WHERE e.code_system = 'SOURCE'
    GROUP BY s.stay_id"""
    }


PART = Part(_FEATURES, _ctes, ("stated",))
