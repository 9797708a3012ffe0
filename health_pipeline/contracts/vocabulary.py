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
    "SNOMED": "diagnosis, finding or procedure; text_value of a diagnosis as above",
    "HCPCS": "procedure, supply or service",
    "CVX": "vaccine given",
    "OMOP": "concept id of an OMOP extract that came without its vocabulary",
    # Counts that a source hands over ready-made instead of the events behind them (numeric_value):
    # prior_inpatient_1y, prior_emergency_1y, prior_outpatient_1y, lab_procedures, procedures, medications, diagnoses;
    # and medication_change, diabetes_medication as 0 or 1.
    "SOURCE": "count stated by the source itself",
}

# Codes of hospital systems that stand for the words above. Sources: National Uniform Billing Committee, UB-04 form
# locators 14 (priority of the visit) and 17 (patient discharge status); HL7 administrative sex.
SEX_ALIASES = {"f": "female", "m": "male", "o": "other", "u": "unknown"}
ADMISSION_TYPE_ALIASES = {
    "1": "emergency",
    "2": "urgent",
    "3": "elective",
    "4": "newborn",
    "5": "trauma",
    "9": "unknown",
}
DISCHARGE_DISPOSITION_ALIASES = {
    "01": "home",
    "02": "acute_transfer",
    "03": "skilled_nursing",
    "04": "intermediate_care",
    "05": "other",
    "06": "home_health",
    "07": "against_advice",
    "20": "expired",
    "21": "other",
    "30": "still_patient",
    "40": "expired",
    "41": "expired",
    "42": "expired",
    "43": "acute_transfer",
    "50": "hospice",
    "51": "hospice",
    "61": "skilled_nursing",
    "62": "rehabilitation",
    "63": "long_term_care",
    "64": "intermediate_care",
    "65": "psychiatric",
    "66": "acute_transfer",
    "69": "other",
    "70": "other",
}
# 81 to 95 are other codes once more, for a patient whose return is planned.
_WITH_PLANNED_RETURN = ["01", "02", "03", "04", "05", "06", "21", "43", "61", "62", "63", "64", "65", "66", "70"]
DISCHARGE_DISPOSITION_ALIASES |= {
    str(code): DISCHARGE_DISPOSITION_ALIASES[same] for code, same in enumerate(_WITH_PLANNED_RETURN, start=81)
}
DISCHARGE_DISPOSITION_ALIASES |= {
    code.lstrip("0"): word for code, word in DISCHARGE_DISPOSITION_ALIASES.items() if code.startswith("0")
}
