"""What the simulated patients suffer from: chronic conditions, and the causes for which they are admitted.

Prevalences and effects are of the order that is published for adult inpatients in the United States (HCUP statistical
briefs; Charlson and Elixhauser comorbidity literature); they are chosen to be plausible, not fitted to any data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Condition:
    """A chronic condition.

    Attributes:
        code: ICD-10-CM.
        log_odds: log odds of having it at the age of 65.
        per_decade: change of the log odds for ten years of age.
        use: log rate ratio of being admitted.
        risk: log odds ratio of being readmitted within 30 days.
        drugs: RxNorm ingredients it is treated with.
    """

    name: str
    code: str
    log_odds: float
    per_decade: float
    use: float
    risk: float
    drugs: tuple[str, ...] = ()


CONDITIONS: tuple[Condition, ...] = (
    Condition("hypertension", "I10", 0.4, 0.35, 0.05, 0.00, ("29046", "17767")),
    Condition("heart_failure", "I50.9", -2.2, 0.45, 0.65, 0.42, ("4603", "20352")),
    Condition("ischaemic_heart_disease", "I25.10", -1.5, 0.35, 0.30, 0.10, ("1191", "83367")),
    Condition("atrial_fibrillation", "I48.91", -2.1, 0.50, 0.25, 0.10, ("11289", "6918")),
    Condition("copd", "J44.9", -1.9, 0.20, 0.50, 0.34, ("435", "69120")),
    Condition("diabetes", "E11.9", -1.1, 0.15, 0.20, 0.08, ("6809",)),
    Condition("diabetes_with_complications", "E11.22", -2.6, 0.15, 0.40, 0.24, ("274783", "6809")),
    Condition("chronic_kidney_disease", "N18.30", -2.0, 0.40, 0.40, 0.24, ("20352",)),
    Condition("dialysis", "N18.6", -4.2, 0.05, 0.95, 0.55, ("214824",)),
    Condition("cancer", "C18.9", -2.7, 0.25, 0.45, 0.28, ("4492",)),
    Condition("metastatic_cancer", "C78.7", -3.9, 0.15, 0.80, 0.60, ("7804",)),
    Condition("cirrhosis", "K74.60", -3.6, 0.00, 0.60, 0.52, ("6218", "9997")),
    Condition("dementia", "F03.90", -3.0, 0.95, 0.20, 0.12, ("135447",)),
    Condition("depression", "F32.9", -1.7, -0.10, 0.20, 0.15, ("36437",)),
    Condition("substance_use", "F10.20", -2.7, -0.50, 0.50, 0.46, ("7243",)),
    Condition("cerebrovascular_disease", "I69.354", -2.7, 0.40, 0.20, 0.08, ("32968",)),
    Condition("peripheral_vascular_disease", "I73.9", -2.8, 0.35, 0.20, 0.12, ("32968",)),
    Condition("rheumatoid_arthritis", "M06.9", -3.4, 0.10, 0.15, 0.06, ("6851",)),
    Condition("obesity", "E66.9", -1.2, -0.15, 0.10, 0.00),
    Condition("hiv", "B20", -5.2, -0.30, 0.40, 0.20, ("1721613",)),
)
INDEX: Mapping[str, int] = {condition.name: number for number, condition in enumerate(CONDITIONS)}
USE = np.array([condition.use for condition in CONDITIONS], dtype=np.float32)
RISK = np.array([condition.risk for condition in CONDITIONS], dtype=np.float32)


@dataclass(frozen=True)
class Cause:
    """A reason for admission.

    Attributes:
        code: ICD-10-CM of the principal diagnosis.
        share: weight among admissions of its kind for a patient without chronic conditions.
        days: median length of stay.
        risk: log odds ratio of readmission.
        death: log odds ratio of dying in hospital.
        favours: factor on the weight for patients with a condition.
        procedure: ICD-10-PCS of the procedure that goes with it.
        charge: median charge in dollars.
    """

    name: str
    code: str
    service: str
    drg: str
    share: float
    days: float
    risk: float
    death: float
    charge: float
    favours: Mapping[str, float] = field(default_factory=dict)
    procedure: str | None = None


# fmt: off
UNPLANNED: tuple[Cause, ...] = (
    Cause("sepsis", "A41.9", "internal medicine", "871", 9, 5.5, 0.15, 1.3, 52_000, {"cancer": 1.8, "dialysis": 2.0}),
    Cause("heart_failure", "I50.9", "cardiology", "291", 0.8, 4.6, 0.35, 0.4, 34_000, {"heart_failure": 22.0}),
    Cause("copd", "J44.1", "pulmonology", "190", 0.8, 3.9, 0.25, 0.1, 27_000, {"copd": 14.0}),
    Cause("pneumonia", "J18.9", "internal medicine", "193", 6, 4.3, 0.10, 0.5, 30_000, {"copd": 2.0, "dementia": 1.8}),
    Cause("myocardial_infarction", "I21.4", "cardiology", "281", 3.5, 3.6, 0.10, 0.5, 70_000,
          {"ischaemic_heart_disease": 3.0}, "027034Z"),
    Cause("arrhythmia", "I48.91", "cardiology", "309", 2, 2.8, 0.05, -0.4, 24_000, {"atrial_fibrillation": 7.0}),
    Cause("stroke", "I63.9", "neurology", "065", 4, 4.4, 0.00, 0.8, 48_000, {"cerebrovascular_disease": 1.8}),
    Cause("kidney_failure", "N17.9", "nephrology", "683", 3, 4.1, 0.25, 0.3, 29_000,
          {"chronic_kidney_disease": 3.5, "dialysis": 3.0}, "5A1D70Z"),
    Cause("diabetes", "E11.65", "endocrinology", "638", 0.5, 3.2, 0.15, -0.8, 22_000,
          {"diabetes": 4.0, "diabetes_with_complications": 12.0}),
    Cause("urinary_infection", "N39.0", "internal medicine", "690", 4, 3.5, 0.05, -0.5, 21_000, {"dementia": 2.0}),
    Cause("cellulitis", "L03.115", "internal medicine", "603", 4, 3.4, -0.05, -1.2, 20_000, {"diabetes": 1.6}),
    Cause("gastrointestinal_bleed", "K92.2", "gastroenterology", "378", 4, 3.5, 0.10, 0.0, 31_000, {"cirrhosis": 4.0}),
    Cause("liver_failure", "K76.82", "gastroenterology", "441", 0.1, 5.0, 0.50, 0.8, 45_000, {"cirrhosis": 60.0}),
    Cause("hip_fracture", "S72.001A", "orthopaedics", "481", 3, 5.2, -0.10, 0.2, 62_000, {"dementia": 2.0}, "0SRB04Z"),
    Cause("chest_pain", "R07.9", "cardiology", "313", 5, 1.6, -0.30, -3.0, 17_000),
    Cause("appendicitis", "K35.80", "general surgery", "399", 4, 1.9, -0.60, -3.0, 38_000, {}, "0DTJ4ZZ"),
    Cause("bowel_obstruction", "K56.609", "general surgery", "389", 4, 3.8, 0.10, -0.3, 26_000, {"cancer": 2.0}),
    Cause("alcohol_withdrawal", "F10.230", "internal medicine", "897", 0.4, 3.5, 0.25, -0.8, 21_000,
          {"substance_use": 26.0}),
    Cause("depression", "F32.2", "psychiatry", "885", 1.5, 6.0, 0.00, -4.0, 19_000, {"depression": 4.0}),
    Cause("syncope", "R55", "internal medicine", "312", 4, 1.9, -0.15, -2.0, 19_000),
)
PLANNED: tuple[Cause, ...] = (
    Cause("knee_replacement", "M17.11", "orthopaedics", "470", 9, 1.8, -0.75, -3.0, 58_000,
          {"obesity": 1.7}, "0SRC0J9"),
    Cause("hip_replacement", "M16.11", "orthopaedics", "470", 7, 1.8, -0.70, -3.0, 60_000, {}, "0SR90J9"),
    Cause("spinal_fusion", "M48.061", "neurosurgery", "460", 4, 2.9, -0.35, -2.2, 95_000, {}, "0SG0071"),
    Cause("bypass_surgery", "I25.110", "cardiac surgery", "236", 2, 6.6, -0.15, -0.8, 140_000,
          {"ischaemic_heart_disease": 6.0}, "021209W"),
    Cause("colectomy", "C18.2", "general surgery", "330", 1, 4.8, 0.05, -1.0, 75_000, {"cancer": 12.0}, "0DTF4ZZ"),
    Cause("chemotherapy", "Z51.11", "oncology", "847", 0.3, 2.9, 0.30, -1.2, 33_000,
          {"cancer": 16.0, "metastatic_cancer": 30.0}, "3E03305"),
    Cause("vascular_surgery", "I70.213", "vascular surgery", "253", 1.5, 3.0, 0.15, -1.2, 68_000,
          {"peripheral_vascular_disease": 8.0}, "04CK0ZZ"),
    Cause("hernia_repair", "K43.2", "general surgery", "355", 3, 2.2, -0.40, -3.0, 41_000, {}, "0WUF0JZ"),
)
# fmt: on
CAUSES: tuple[Cause, ...] = UNPLANNED + PLANNED
CHEMOTHERAPY = next(number for number, cause in enumerate(CAUSES) if cause.name == "chemotherapy")


def cause_weights(conditions: np.ndarray, planned: bool) -> np.ndarray:
    """Weight of each cause for each patient.

    Args:
        conditions: booleans, patients x conditions.
        planned: which of the two lists.

    Returns:
        Array patients x ``len(CAUSES)``; causes of the other list weigh nothing.
    """
    weights = np.zeros((len(conditions), len(CAUSES)), dtype=np.float32)
    first, causes = (len(UNPLANNED), PLANNED) if planned else (0, UNPLANNED)
    for number, cause in enumerate(causes, start=first):
        weights[:, number] = cause.share
        for name, factor in cause.favours.items():
            weights[conditions[:, INDEX[name]], number] *= factor
    return weights
