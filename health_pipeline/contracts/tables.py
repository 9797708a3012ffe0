"""The four landing tables, declared once.

Times are hospital local time without zone; an offset in a landed value is dropped, the wall clock counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from health_pipeline.contracts import vocabulary as words
from health_pipeline.contracts.declarations import LandingColumn, LandingTable, Rule

EARLIEST = "TIMESTAMP '1900-01-01'"
"""No clinical fact of a living patient was recorded before; catches mistyped centuries and ``-infinity``."""

LATEST = "(month + INTERVAL 2 MONTH)"
"""An extract of a month is taken within a month after it closed; anything later lies in its future."""


def _within(column: str) -> Rule:
    return Rule(
        f"{column}_implausible",
        f"{column} < {EARLIEST} OR {column} >= {LATEST}",
        f"{column} lies before 1900 or more than a month after the file's month had closed",
    )


def _not_negative(column: str) -> Rule:
    return Rule(f"{column}_negative", f"{column} < 0", f"{column} is negative")


LARGEST_AMOUNT = 1e15
"""No claim is that large in any currency; sums to the cent stay exact below it."""


def _amount(column: str) -> tuple[Rule, Rule]:
    above = Rule(
        f"{column}_implausible", f"{column} >= {LARGEST_AMOUNT!r}", f"{column} is no amount of money: 1e15 or more"
    )
    return _not_negative(column), above


def _in_month(column: str) -> Rule:
    return Rule(
        f"{column}_outside_month",
        f"CAST(date_trunc('month', {column}) AS DATE) <> month",
        f"{column} lies in another month than the file it landed in",
    )


ADMISSIONS = LandingTable(
    name="admissions",
    version="1",
    description="Inpatient stays by month of discharge: source of the label and of the index events.",
    is_label_source=True,
    month_column="discharged_at",
    key=("encounter_id",),
    columns=(
        LandingColumn("encounter_id", "VARCHAR", "identifier of the stay", required=True, nullable=False),
        LandingColumn(
            "patient_id", "VARCHAR", "identifier of the patient at the source", required=True, nullable=False
        ),
        LandingColumn("facility_id", "VARCHAR", "hospital or site"),
        LandingColumn("admitted_at", "TIMESTAMP", "begin of the stay", required=True, nullable=False),
        LandingColumn("discharged_at", "TIMESTAMP", "end of the stay", required=True, nullable=False),
        LandingColumn(
            "admission_type",
            "VARCHAR",
            "urgency; UB-04 codes are understood",
            vocabulary=words.ADMISSION_TYPES,
            aliases=words.ADMISSION_TYPE_ALIASES,
        ),
        LandingColumn("admission_source", "VARCHAR", "where the patient came from", vocabulary=words.ADMISSION_SOURCES),
        LandingColumn(
            "discharge_disposition",
            "VARCHAR",
            "where the patient went; UB-04 codes are understood",
            vocabulary=words.DISCHARGE_DISPOSITIONS,
            aliases=words.DISCHARGE_DISPOSITION_ALIASES,
        ),
        LandingColumn("service", "VARCHAR", "clinical service that discharged", expression="lower({text})"),
        LandingColumn("drg", "VARCHAR", "diagnosis related group"),
        LandingColumn("payer", "VARCHAR", "who pays", vocabulary=words.PAYERS),
        LandingColumn("is_planned", "BOOLEAN", "stay was planned in advance"),
        LandingColumn("readmitted_30d", "BOOLEAN", "outcome stated by the source, where dates cannot give it"),
    ),
    rules=(
        _within("admitted_at"),
        _within("discharged_at"),
        Rule(
            "discharge_before_admission",
            "discharged_at < admitted_at",
            "discharged_at lies before admitted_at",
        ),
        _in_month("discharged_at"),
    ),
)

PATIENTS = LandingTable(
    name="patients",
    version="2",
    description="Attributes of patients, new or changed in the month (feature source 1).",
    key=("patient_id", "recorded_at"),
    columns=(
        LandingColumn(
            "patient_id", "VARCHAR", "identifier of the patient at the source", required=True, nullable=False
        ),
        LandingColumn("birth_date", "DATE", "date of birth"),
        LandingColumn("sex", "VARCHAR", "administrative sex", vocabulary=words.SEXES, aliases=words.SEX_ALIASES),
        LandingColumn("race", "VARCHAR", "race as recorded", expression="lower({text})"),
        LandingColumn("ethnicity", "VARCHAR", "ethnicity as recorded", expression="lower({text})"),
        LandingColumn("language", "VARCHAR", "preferred language", expression="lower({text})"),
        LandingColumn("marital_status", "VARCHAR", "marital status", expression="lower({text})"),
        LandingColumn(
            "zip3",
            "VARCHAR",
            "first three characters of the postal code; longer codes are cut, because they identify people",
            expression="upper(left({text}, 3))",
        ),
        LandingColumn("income", "DOUBLE", "household income a year", unit="currency of the source"),
        LandingColumn("deceased_on", "DATE", "date of death"),
        LandingColumn("recorded_at", "TIMESTAMP", "when these attributes became known", required=True, nullable=False),
    ),
    rules=(
        _within("recorded_at"),
        Rule(
            "birth_after_record",
            "birth_date > CAST(recorded_at AS DATE)",
            "birth_date lies after recorded_at",
        ),
        Rule(
            "birth_implausible",
            "birth_date < CAST(recorded_at AS DATE) - INTERVAL 130 YEAR",
            "birth_date makes the patient older than 130 years",
        ),
        # '05-02-23' is a day of the year 5 to DuckDB; without a birth date nothing else would say no.
        Rule("deceased_on_implausible", f"deceased_on < {EARLIEST}", "deceased_on lies before 1900"),
        Rule("death_before_birth", "deceased_on < birth_date", "deceased_on lies before birth_date"),
        Rule(
            "death_after_record",
            "deceased_on > CAST(recorded_at AS DATE)",
            "deceased_on lies after recorded_at: a death that nobody could know of yet",
        ),
        _not_negative("income"),
    ),
)

CLINICAL_EVENTS = LandingTable(
    name="clinical_events",
    version="1",
    description="Clinical facts in the shape of the Medical Event Data Standard (feature source 2).",
    key=("patient_id", "encounter_id", "time", "recorded_at", "code", "numeric_value", "text_value"),
    columns=(
        LandingColumn(
            "patient_id", "VARCHAR", "identifier of the patient at the source", required=True, nullable=False
        ),
        LandingColumn("encounter_id", "VARCHAR", "stay the fact belongs to, if any"),
        LandingColumn("time", "TIMESTAMP", "when the fact happened", required=True, nullable=False),
        LandingColumn(
            "recorded_at",
            "TIMESTAMP",
            "when the fact was recorded; decides what a feature may see",
            required=True,
            nullable=False,
        ),
        LandingColumn(
            "code",
            "VARCHAR",
            "`SYSTEM//code` or `SYSTEM//code//unit`; silver splits it into code_system, code and unit",
            required=True,
            nullable=False,
        ),
        LandingColumn("numeric_value", "DOUBLE", "value; silver holds it in the canonical unit of its code"),
        LandingColumn("text_value", "VARCHAR", "value in words", expression="lower({text})"),
    ),
    rules=(
        _within("time"),
        _within("recorded_at"),
        Rule(
            "code_without_system",
            "code_system IS NULL OR bare_code IS NULL",
            "code does not have the form SYSTEM//code or SYSTEM//code//unit",
        ),
        Rule(
            "unit_unknown",
            "canonical_unit IS NOT NULL AND numeric_value IS NOT NULL AND factor IS NULL",
            "the unit in code cannot be converted to the canonical unit of this measurement",
        ),
        Rule(
            "value_impossible",
            "numeric_value * factor + term NOT BETWEEN lowest AND highest",
            "numeric_value lies outside what a living patient can have, in the unit given (or, without one, assumed)",
        ),
    ),
)

CLAIMS = LandingTable(
    name="claims",
    version="2",
    description="Money, by month of processing (feature source 3). Amounts are net of reversals.",
    month_column="processed_at",
    key=("claim_id",),
    columns=(
        LandingColumn("claim_id", "VARCHAR", "identifier of the claim", required=True, nullable=False),
        LandingColumn("encounter_id", "VARCHAR", "stay the claim is for, if any"),
        LandingColumn(
            "patient_id", "VARCHAR", "identifier of the patient at the source", required=True, nullable=False
        ),
        LandingColumn("service_from", "TIMESTAMP", "begin of the service"),
        LandingColumn("service_to", "TIMESTAMP", "end of the service"),
        LandingColumn(
            "processed_at",
            "TIMESTAMP",
            "when the payer settled the claim; decides what a feature may see",
            required=True,
            nullable=False,
        ),
        LandingColumn("charged", "DOUBLE", "amount billed", unit="currency of the source"),
        LandingColumn("allowed", "DOUBLE", "amount the payer accepts", unit="currency of the source"),
        LandingColumn("payer_paid", "DOUBLE", "amount the payer paid", unit="currency of the source"),
        LandingColumn("patient_paid", "DOUBLE", "amount left to the patient", unit="currency of the source"),
        LandingColumn("denied", "BOOLEAN", "claim was refused"),
    ),
    rules=(
        _within("processed_at"),
        _within("service_from"),
        _within("service_to"),
        Rule("service_ends_before_begin", "service_to < service_from", "service_to lies before service_from"),
        Rule(
            "processed_before_service",
            "CAST(processed_at AS DATE) < CAST(service_from AS DATE)",
            "processed_at lies before the day of service_from",
        ),
        _in_month("processed_at"),
        *_amount("charged"),
        *_amount("allowed"),
        *_amount("payer_paid"),
        *_amount("patient_paid"),
    ),
)

LANDING_TABLES: Mapping[str, LandingTable] = {
    table.name: table for table in (ADMISSIONS, PATIENTS, CLINICAL_EVENTS, CLAIMS)
}
