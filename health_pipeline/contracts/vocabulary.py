"""The words of the landing contract: allowed values of the coded columns of ``admissions`` and ``patients``.

A value outside a vocabulary never stops a row: silver keeps it in lower case and a check reports it, so that an
unseen category reaches scoring as "unseen" and not as an error.
"""

ADMISSION_TYPES = ("emergency", "urgent", "elective", "newborn", "trauma", "other", "unknown")
ADMISSION_SOURCES = (
    "emergency_room",
    "physician_referral",
    "clinic_referral",
    "transfer_acute",
    "transfer_skilled_nursing",
    "transfer_other",
    "birth",
    "other",
    "unknown",
)
DISCHARGE_DISPOSITIONS = (
    "home",
    "home_health",
    "skilled_nursing",
    "intermediate_care",
    "rehabilitation",
    "long_term_care",
    "acute_transfer",
    "psychiatric",
    "against_advice",
    "hospice",
    "expired",
    "still_patient",
    "other",
    "unknown",
)
PAYERS = ("medicare", "medicaid", "commercial", "self_pay", "other", "unknown")
SEXES = ("female", "male", "other", "unknown")

# Code systems of ``clinical_events.code`` (``SYSTEM//code`` or ``SYSTEM//code//unit``, Medical Event Data Standard).
CODE_SYSTEMS = {
    "ICD10CM": "diagnosis; text_value is its position: 'principal' or 'secondary'",
    "ICD9CM": "diagnosis; text_value as above",
    "ICD10PCS": "procedure",
    "ICD9PROC": "procedure",
    "CPT4": "procedure",
    "LOINC": "laboratory or vital sign; numeric_value in the unit of the third part of the code",
    "RXNORM": "medicine given or prescribed; text_value 'steady', 'up', 'down', 'started' or 'stopped'",
    "DRUG": "medicine by its generic name where no RxNorm code is known; text_value as above",
    "SNOMED": "diagnosis, finding or procedure",
    # Counts that a source hands over ready-made instead of the events behind them (numeric_value):
    # prior_inpatient_1y, prior_emergency_1y, prior_outpatient_1y, lab_procedures, procedures, medications, diagnoses.
    "SOURCE": "count stated by the source itself",
}
