"""Clinical events of the simulated stays: diagnoses, laboratory values, vital signs, medicines, procedures.

Each has the moment it happened and the moment it was recorded: most diagnoses on admission, but final coding days
after the discharge; results within hours, a few only after the patient has gone; medicines and procedures
during the stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from health_pipeline.sources.simulator.admission import HOUR
from health_pipeline.sources.simulator.conditions import CAUSES, CONDITIONS, INDEX
from health_pipeline.sources.simulator.hospital import MonthOfCare, Visits
from health_pipeline.sources.simulator.population import DAY
from health_pipeline.sources.simulator.rows import NO_STAY, EventRows
from health_pipeline.sources.simulator.stay import Stays

_NEW_CODES = {"I50.9": "I50.32", "J44.9": "J44.89"}
_DIALYSIS = "5A1D70Z"
_COMMON_DRUGS = ("161", "5224", "40790", "26225", "2193", "11124", "8640", "86009", "8591", "7052", "1819", "36567")
_DRUGS = tuple(dict.fromkeys([drug for condition in CONDITIONS for drug in condition.drugs] + list(_COMMON_DRUGS)))
_CHANGES = ("steady", "up", "down", "started")


@dataclass(frozen=True)
class _Test:
    """A measurement: its LOINC code, units, and how often it is made on admission and again before discharge."""

    name: str
    loinc: str
    unit: str
    on_admission: float
    before_discharge: float
    decimals: int
    other_unit: str | None = None  # what the laboratory of the third facility reports, correctly labelled
    other_factor: float = 1.0


_TESTS = (
    _Test("creatinine", "2160-0", "mg/dL", 0.97, 0.75, 2, "umol/L", 88.42),
    _Test("urea", "3094-0", "mg/dL", 0.97, 0.75, 1),
    _Test("sodium", "2951-2", "mmol/L", 0.97, 0.75, 0),
    _Test("potassium", "2823-3", "mmol/L", 0.97, 0.70, 1),
    _Test("haemoglobin", "718-7", "g/dL", 0.96, 0.70, 1, "g/L", 10.0),
    _Test("leukocytes", "6690-2", "10*3/uL", 0.96, 0.60, 1),
    _Test("platelets", "777-3", "10*3/uL", 0.95, 0.0, 0),
    _Test("glucose", "2345-7", "mg/dL", 0.95, 0.50, 0, "mmol/L", 1 / 18.016),
    _Test("albumin", "1751-7", "g/dL", 0.55, 0.25, 1),
    _Test("hba1c", "4548-4", "%", 0.06, 0.0, 1),
    _Test("bnp", "30934-4", "pg/mL", 0.10, 0.0, 0),
    _Test("lactate", "2524-7", "mmol/L", 0.12, 0.0, 1),
    _Test("systolic_pressure", "8480-6", "mm[Hg]", 0.99, 0.0, 0),
    _Test("heart_rate", "8867-4", "/min", 0.99, 0.0, 0),
    _Test("body_mass_index", "39156-5", "kg/m2", 0.70, 0.0, 1),
)


def clinical_events(rng: np.random.Generator, care: MonthOfCare) -> pa.Table:
    """All facts of the stays that began in a month, and of its emergency visits.

    Returns:
        Table with person, stay, time, recorded_at, code, numeric_value, text_value (see ``rows.EventRows``).
    """
    rows = EventRows()
    stays = care.stays
    _diagnoses(rng, rows, stays, care.effects)
    _measurements(rng, rows, stays, care.effects)
    _drugs(rng, rows, stays)
    _procedures(rng, rows, stays)
    _visits(rng, rows, care.visits)
    return rows.table()


def _during(rng: np.random.Generator, stays: Stays, chosen: np.ndarray, hours: float) -> np.ndarray:
    """A moment within the first ``hours`` of the stay, or before its end."""
    begin, end = stays.admitted_at[chosen], stays.discharged_at[chosen]
    moment: np.ndarray = begin + rng.random(len(begin)) * np.minimum(end - begin, hours * HOUR)
    return moment


def _coded_at(rng: np.random.Generator, stays: Stays, chosen: np.ndarray, at_once: float) -> np.ndarray:
    """When a diagnosis is recorded: soon after admission, or by final coding days after the discharge."""
    after = stays.discharged_at[chosen] + rng.gamma(2.0, 2.0, len(chosen)).clip(0.3, 20) * DAY
    return np.where(rng.random(len(chosen)) < at_once, _during(rng, stays, chosen, 20), after)


def _diagnoses(rng: np.random.Generator, rows: EventRows, stays: Stays, effects: Mapping[str, float]) -> None:
    def number(code: str) -> int:
        return rows.code("ICD10CM//" + (_NEW_CODES.get(code, code) if effects["new_codes"] else code))

    everyone = np.arange(len(stays))
    principal = np.array([number(cause.code) for cause in CAUSES])[stays.cause]
    time = stays.admitted_at
    rows.add(stays.person, stays.number, time, _coded_at(rng, stays, everyone, 0.92), principal, None,
             rows.text("principal"))  # fmt: skip
    codes = np.array([number(condition.code) for condition in CONDITIONS])
    who, which = np.nonzero(stays.conditions & (rng.random(stays.conditions.shape) < 0.90))
    different = codes[which] != principal[who]
    who, which = who[different], which[different]
    rows.add(stays.person[who], stays.number[who], time[who], _coded_at(rng, stays, who, 0.84), codes[which],
             None, rows.text("secondary"))  # fmt: skip


def _values(rng: np.random.Generator, stays: Stays) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values of every test, on admission and before discharge."""
    size, severity, has = len(stays), stays.severity, stays.conditions
    diabetes = has[:, INDEX["diabetes"]]
    worse = np.exp(0.08 + 0.10 * severity.clip(-1, 3) + 0.08 * rng.normal(size=size))

    def around(values: np.ndarray, noise: float) -> np.ndarray:
        return values * np.exp(noise * rng.normal(size=size))

    glucose = np.where(diabetes, 168, 104) * np.exp(0.22 * rng.normal(size=size) + 0.05 * severity)
    leukocytes = 8.2 * np.exp(0.28 * rng.normal(size=size) + 0.16 * severity)
    pressure = 134 + 19 * rng.normal(size=size) - 4 * severity + 5 * has[:, INDEX["hypertension"]]
    noise = rng.normal(size=size)
    on_admission_only = np.zeros(size)
    return {
        "creatinine": (stays.creatinine * worse, stays.creatinine),
        "urea": (stays.urea * worse, stays.urea),
        "sodium": (stays.sodium - 0.6 * severity + rng.normal(size=size), stays.sodium),
        "potassium": (4.2 + 0.5 * rng.normal(size=size), 4.1 + 0.4 * rng.normal(size=size)),
        "haemoglobin": (stays.haemoglobin + 0.5 * rng.normal(size=size) + 0.3, stays.haemoglobin),
        "leukocytes": (leukocytes, around(leukocytes * 0.88, 0.15)),
        "platelets": ((228 + 66 * rng.normal(size=size)).clip(12, 900), on_admission_only),
        "glucose": (glucose, around(np.where(diabetes, 142, 100), 0.18)),
        "albumin": (stays.albumin + 0.1 * rng.normal(size=size), stays.albumin),
        "hba1c": (np.where(diabetes, 7.6 + 1.3 * noise, 5.5 + 0.3 * noise), on_admission_only),
        "bnp": (90 * np.exp(0.9 * rng.normal(size=size) + 1.6 * has[:, INDEX["heart_failure"]]), on_admission_only),
        "lactate": (1.3 * np.exp(0.35 * rng.normal(size=size) + 0.22 * severity), on_admission_only),
        "systolic_pressure": (pressure.clip(62, 240), on_admission_only),
        "heart_rate": ((84 + 15 * rng.normal(size=size) + 4 * severity).clip(38, 190), on_admission_only),
        "body_mass_index": (27.5 + 4.2 * rng.normal(size=size) + 6 * has[:, INDEX["obesity"]], on_admission_only),
    }  # fmt: skip


def _measurements(rng: np.random.Generator, rows: EventRows, stays: Stays, effects: Mapping[str, float]) -> None:
    values = _values(rng, stays)
    size = len(stays)
    often = {
        "hba1c": 0.30 * stays.conditions[:, INDEX["diabetes"]],
        "bnp": 0.50 * stays.conditions[:, INDEX["heart_failure"]],
        "lactate": 0.20 * (stays.severity > 0.8),
    }
    length = stays.discharged_at - stays.admitted_at
    for test in _TESTS:
        first = np.flatnonzero(rng.random(size) < test.on_admission + often.get(test.name, 0.0))
        taken = stays.admitted_at[first] + rng.uniform(0.2, 2.0, len(first)) * HOUR
        _results(rng, rows, stays, test, first, taken, values[test.name][0], effects)
        again = np.flatnonzero((rng.random(size) < test.before_discharge) & (length > 20 * HOUR))
        taken = stays.discharged_at[again] - rng.uniform(3, 14, len(again)) * HOUR
        _results(rng, rows, stays, test, again, taken, values[test.name][1], effects)


def _results(
    rng: np.random.Generator,
    rows: EventRows,
    stays: Stays,
    test: _Test,
    chosen: np.ndarray,
    taken: np.ndarray,
    values: np.ndarray,
    effects: Mapping[str, float],
) -> None:
    value = values[chosen].clip(0.1)
    pending = rng.random(len(chosen)) < 0.03
    delay = np.where(pending, rng.uniform(12, 72, len(chosen)), rng.uniform(0.4, 2.8, len(chosen)))
    codes = np.full(len(chosen), rows.code(f"LOINC//{test.loinc}//{test.unit}"))
    decimals = test.decimals
    if test.other_unit:
        third = stays.facility[chosen] == 2
        value = np.where(third, value * test.other_factor, value)
        codes[third] = rows.code(f"LOINC//{test.loinc}//{test.other_unit}")
    if test.name == "urea" and effects["urea_factor"] != 1.0:
        value, decimals = value * effects["urea_factor"], 1
    rows.add(stays.person[chosen], stays.number[chosen], taken, taken + delay * HOUR, codes, np.round(value, decimals))


def _drugs(rng: np.random.Generator, rows: EventRows, stays: Stays) -> None:
    preference = rng.random((len(stays), len(_DRUGS)), dtype=np.float32)
    for number, drug in enumerate(_DRUGS):
        treats = [INDEX[condition.name] for condition in CONDITIONS if drug in condition.drugs]
        preference[:, number] += 0.9 * stays.conditions[:, treats].any(axis=1)
        preference[:, number] -= 0.5 * (drug not in _COMMON_DRUGS)
    rank = np.argsort(np.argsort(-preference, axis=1), axis=1)
    who, chosen = np.nonzero(rank < stays.drugs[:, None])
    codes = np.array([rows.code(f"RXNORM//{name}") for name in _DRUGS])
    change = rng.choice(len(_CHANGES), size=len(who), p=(0.70, 0.09, 0.07, 0.14))
    texts = np.array([rows.text(name) for name in _CHANGES])
    given = _during(rng, stays, who, 24)
    recorded = np.minimum(given + rng.uniform(0.1, 2.0, len(who)) * HOUR, stays.discharged_at[who])
    rows.add(stays.person[who], stays.number[who], given, recorded, codes[chosen], None, texts[change])


def _procedures(rng: np.random.Generator, rows: EventRows, stays: Stays) -> None:
    session = rows.code(f"ICD10PCS//{_DIALYSIS}")
    codes = np.array([rows.code(f"ICD10PCS//{cause.procedure}") if cause.procedure else -1 for cause in CAUSES])
    principal = codes[stays.cause]
    done = np.flatnonzero((principal >= 0) & (rng.random(len(stays)) < 0.88))
    time = _during(rng, stays, done, 48)
    rows.add(stays.person[done], stays.number[done], time, _noted(rng, stays, done, time), principal[done])
    dialysis = np.flatnonzero(stays.conditions[:, INDEX["dialysis"]] & (principal != session) & (stays.days > 1))
    time = _during(rng, stays, dialysis, 48)
    rows.add(stays.person[dialysis], stays.number[dialysis], time, _noted(rng, stays, dialysis, time), session)


def _noted(rng: np.random.Generator, stays: Stays, chosen: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Procedures are noted within hours; one in ten is coded only after the discharge."""
    soon = np.minimum(time + rng.uniform(0.5, 5, len(chosen)) * HOUR, stays.discharged_at[chosen])
    late = stays.discharged_at[chosen] + rng.gamma(2.0, 2.0, len(chosen)).clip(0.3, 20) * DAY
    noted: np.ndarray = np.where(rng.random(len(chosen)) < 0.90, soon, late)
    return noted


def _visits(rng: np.random.Generator, rows: EventRows, visits: Visits) -> None:
    codes = np.array([rows.code(f"CPT4//{code}") for code in ("99283", "99284", "99285")])
    level = codes[rng.choice(3, size=len(visits.person), p=(0.40, 0.42, 0.18))]
    nowhere = np.full(len(visits.person), NO_STAY, dtype=np.int64)
    rows.add(visits.person, nowhere, visits.at, visits.at + rng.uniform(1, 18, len(visits.at)) * HOUR, level)
