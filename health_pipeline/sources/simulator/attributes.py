"""Rows of the admissions and patients tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from health_pipeline.sources.simulator import population, stay
from health_pipeline.sources.simulator.conditions import CAUSES
from health_pipeline.sources.simulator.hospital import MonthOfCare
from health_pipeline.sources.simulator.records import ALIVE
from health_pipeline.sources.simulator.rows import days, moments, words

_SERVICES = tuple(sorted({cause.service for cause in CAUSES}))


def admissions(care: MonthOfCare) -> pa.Table:
    """Stays that began in a month, with the columns of the contract; ``stay`` and ``person`` are numbers."""
    stays = care.stays
    names = [cause.service for cause in CAUSES]
    if care.effects["new_codes"]:
        names = [f"SL-{_SERVICES.index(name) + 10}" for name in names]
    return pa.table(
        {
            "stay": stays.number,
            "person": stays.person,
            "facility_id": words(stays.facility, stay.FACILITIES),
            "admitted_at": moments(stays.admitted_at),
            "discharged_at": moments(stays.discharged_at),
            "admission_type": words(stays.admission_type, stay.ADMISSION_TYPES),
            "admission_source": words(stays.source, stay.SOURCES),
            "discharge_disposition": words(stays.disposition, stay.DISPOSITIONS),
            "service": words(stays.cause, names),
            "drg": words(stays.cause, [cause.drg for cause in CAUSES]),
            "payer": words(stays.payer, stay.PAYERS),
            "is_planned": stays.is_planned,
        }
    )


def patients(care: MonthOfCare) -> pa.Table:
    """Patients who became known, changed or died, with the columns of the contract."""
    records = care.records
    return pa.table(
        {
            "person": records.person,
            "birth_date": days(records.born),
            "sex": words(records.female, ("male", "female")),
            "race": words(records.race, population.RACES),
            "ethnicity": words(records.race == population.RACES.index("hispanic"), ("not hispanic", "hispanic")),
            "language": words(records.language, population.LANGUAGES),
            "marital_status": words(records.marital, population.MARITAL),
            "zip3": words(records.area, population.AREAS),
            "income": np.round(records.income.astype(np.float64), -2),
            "deceased_on": days(records.died, missing=ALIVE),
            "recorded_at": moments(records.recorded_at),
        }
    )
