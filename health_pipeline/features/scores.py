"""Published readmission scores: LACE and HOSPITAL, as baselines and as features."""

from __future__ import annotations

from health_pipeline.features.diagnoses import score
from health_pipeline.features.expressions import weighted_sum
from health_pipeline.features.feature import Feature
from health_pipeline.features.part import Part
from health_pipeline.features.procedures import PROCEDURES
from health_pipeline.features.stay import LENGTH_OF_STAY_DAYS
from health_pipeline.features.utilisation import EMERGENCY_HALF_YEAR, INPATIENT_YEAR

# van Walraven C. et al., Derivation and validation of an index to predict early death or unplanned readmission after
# discharge from hospital to the community, CMAJ 2010;182:551-7: length of stay, acuity, comorbidity, emergency visits.
_LACE_LENGTH = f"""(CASE
        WHEN {LENGTH_OF_STAY_DAYS} < 1 THEN 0 WHEN {LENGTH_OF_STAY_DAYS} <= 3 THEN {LENGTH_OF_STAY_DAYS}
        WHEN {LENGTH_OF_STAY_DAYS} <= 6 THEN 4 WHEN {LENGTH_OF_STAY_DAYS} <= 13 THEN 5 ELSE 7 END)"""
_ACUTE = "s.admission_type IN ('emergency', 'urgent', 'trauma')"
_LACE_CHARLSON = f"coalesce({score('charlson', 'lace_weight')}, 0)"
_LACE_COMORBIDITY = f"(CASE WHEN {_LACE_CHARLSON} >= 4 THEN 5 ELSE {_LACE_CHARLSON} END)"
_LACE = f"{_LACE_LENGTH} + {weighted_sum([(_ACUTE, 3)])} + {_LACE_COMORBIDITY} + least(floor({EMERGENCY_HALF_YEAR}), 4)"

# Donze J. et al., Potentially avoidable 30-day hospital readmissions in medical patients, JAMA Intern Med
# 2013;173:632-8. Oncology service: by the specialty, else a principal diagnosis of a neoplasm.
_HOSPITAL = weighted_sum(
    [
        ("laboratory.haemoglobin.last < 12", 1),
        ("contains(lower(s.service), 'oncolog') OR diagnosis.principal_group = 'chapter_neoplasms'", 2),
        ("laboratory.sodium.last < 135", 1),
        (f"{PROCEDURES} > 0", 1),
        ("s.admission_type NOT IN ('elective', 'unknown')", 1),
        (f"{INPATIENT_YEAR} BETWEEN 1 AND 5", 2),
        (f"{INPATIENT_YEAR} > 5", 5),
        (f"{LENGTH_OF_STAY_DAYS} >= 5", 2),
    ]
)

_FEATURES = (
    Feature(
        "lace_index",
        "numeric",
        _LACE,
        "LACE index, 0 to 19 (van Walraven 2010); parts that are not known count 0",
        "scores",
        "silver.admissions",
        "this stay; emergency visits of 180 days, diagnoses of 365 days",
        unit="points",
    ),
    Feature(
        "hospital_score",
        "numeric",
        _HOSPITAL,
        "HOSPITAL score, 0 to 13 (Donze 2013); parts that are not known count 0",
        "scores",
        "silver.admissions",
        "this stay; stays of 365 days",
        unit="points",
    ),
)

PART = Part(_FEATURES, lambda _: {}, ())
