"""A landing zone of any size, made by SQL: contract-conforming rows, deterministic, far quicker than the simulator.

A tenth of the stays of a month are readmissions within 30 days of a stay of the month before; events and claims
surround the stays. Values are plausible, not realistic: this measures time, not models.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from health_pipeline.months import MonthRange, shift


@dataclass(frozen=True)
class Scale:
    """Size of a landing zone."""

    admissions: int
    months: int
    events_per_stay: int = 10
    claims_per_stay: int = 2

    @property
    def stays_per_month(self) -> int:
        """Discharges in each month; all months together are not fewer than asked for."""
        return -(-self.admissions // self.months)

    @property
    def range(self) -> MonthRange:
        """Months ending 2024-12."""
        last = MonthRange.of("2024-12").last
        return MonthRange(shift(last, 1 - self.months), last)


def landing_of(folder: Path, scale: Scale) -> Path:
    """The landing zone of this size below ``folder``, made when it is not there whole."""
    landing = folder / f"landing-{scale.admissions}-{scale.months}"
    if not landing.exists():
        half = landing.with_name(f"{landing.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        write_landing(half, scale)
        half.rename(landing)
    return landing


def write_landing(folder: Path, scale: Scale) -> None:
    """One Parquet file for each table and month."""
    with duckdb.connect() as connection:
        for number, month in enumerate(scale.range):
            connection.execute(_stays(scale, number, f"DATE '{month}'"))
            for table, select in _selects(scale, f"DATE '{month}'", number).items():
                (folder / table).mkdir(parents=True, exist_ok=True)
                file = folder / table / f"{month:%Y-%m}.parquet"
                connection.execute(f"COPY ({select}) TO '{file}' (FORMAT parquet)")


def _stays(scale: Scale, number: int, month: str) -> str:
    """Stays of a month; the first tenth belongs to patients who were discharged late in the month before."""
    n = scale.stays_per_month
    return f"""
        CREATE OR REPLACE TEMP TABLE stay AS
        SELECT *, discharged_at - to_minutes((600 + hash(encounter_id, 3) % 9000)::INT) AS admitted_at
        FROM (
            SELECT i, 'E{number}-' || i AS encounter_id,
                CASE WHEN i < {n // 10} THEN 'P{number - 1}-' || ({n} - 1 - i) ELSE 'P{number}-' || i END AS patient_id,
                {month} + to_minutes((CASE WHEN i < {n // 10} THEN hash(i, {number}) % 14000
                    ELSE 14400 + (hash(i, {number}) % 25000) END)::INT) AS discharged_at,
                hash(i, {number}, 1) AS h
            FROM range({n}) AS r(i)
        )
    """


def _selects(scale: Scale, month: str, number: int) -> dict[str, str]:
    n = scale.stays_per_month
    return {
        "admissions": """
            SELECT encounter_id, patient_id, 'F' || (h % 5) AS facility_id, admitted_at, discharged_at,
                ['emergency', 'urgent', 'elective'][1 + (h % 3)::INT] AS admission_type,
                ['emergency_room', 'physician_referral'][1 + (h % 2)::INT] AS admission_source,
                ['home', 'home_health', 'skilled_nursing'][1 + (h // 7 % 3)::INT] AS discharge_disposition,
                'medicine' AS service, (100 + h % 800)::VARCHAR AS drg,
                ['medicare', 'medicaid', 'commercial'][1 + (h // 11 % 3)::INT] AS payer, h % 12 = 0 AS is_planned
            FROM stay
        """,
        "patients": f"""
            SELECT patient_id, DATE '1930-01-01' + (h % 25000)::INT AS birth_date,
                ['female', 'male'][1 + (h % 2)::INT] AS sex, 'white' AS race, 'unknown' AS ethnicity,
                'english' AS language, 'married' AS marital_status, (100 + h % 900)::VARCHAR AS zip3,
                (20000 + h % 90000)::DOUBLE AS income, NULL::DATE AS deceased_on, {month} AS recorded_at
            FROM stay WHERE i >= {n // 10 if number else 0}
        """,
        "clinical_events": f"""
            SELECT patient_id, encounter_id, admitted_at + to_minutes((60 + k * 20)::INT) AS time,
                admitted_at + to_minutes((90 + k * 20)::INT) AS recorded_at,
                ['LOINC//2160-0//mg/dL', 'LOINC//718-7//g/dL', 'LOINC//2951-2//mmol/L', 'ICD10CM//I50.9',
                    'ICD10CM//E11.9', 'CPT4//99233', 'RXNORM//4603'][1 + ((h + k) % 7)::INT] AS code,
                CASE (h + k) % 7 WHEN 0 THEN 0.6 + (h % 30) / 10.0 WHEN 1 THEN 8.0 + (h % 80) / 10.0
                    WHEN 2 THEN 130.0 + h % 15 END::DOUBLE AS numeric_value,
                CASE WHEN (h + k) % 7 IN (3, 4) THEN 'secondary' END AS text_value
            FROM stay, range({scale.events_per_stay}) AS e(k)
        """,
        "claims": f"""
            SELECT 'C' || encounter_id || '-' || k AS claim_id, encounter_id, patient_id, admitted_at AS service_from,
                discharged_at AS service_to,
                greatest(discharged_at, {month} + INTERVAL 27 DAY) + to_minutes((k * 5)::INT) AS processed_at,
                (1000 + h % 20000)::DOUBLE AS charged, (600 + h % 9000)::DOUBLE AS allowed,
                (500 + h % 8000)::DOUBLE AS payer_paid, (h % 900)::DOUBLE AS patient_paid, h % 20 = 0 AS denied
            FROM stay, range({scale.claims_per_stay}) AS c(k)
        """,
    }
