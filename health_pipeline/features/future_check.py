"""The leak detector as a check on stored features: made again without the future, they must be the same."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from health_pipeline.contracts.warehouse_tables import SILVER
from health_pipeline.features.build import features_query
from health_pipeline.features.catalogue import FEATURE_TABLE
from health_pipeline.features.leakage import KNOWN_AT
from health_pipeline.features.part import LOOKBACK_MONTHS
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Verdict
from health_pipeline.warehouse.slices import Slice
from health_pipeline.warehouse.store import Warehouse

# About so many patients are looked at: a leak shows in a few rows, and the check stays cheap.
SAMPLE_PATIENTS = 300
SAMPLE_PATIENTS_PER_MONTH = 100
# The first month any hospital could have landed; patients' attributes are read from the beginning.
_BEGINNING = dt.date(1900, 1, 1)
_TABLES = {"admissions": "admissions", "patients": "patients", "events": "clinical_events", "claims": "claims"}


@dataclass(frozen=True)
class _PastSlice(Slice):
    """A slice for a sample of the patients, each without what was recorded after that patient's cut-off."""

    condition: str = "true"

    def __str__(self) -> str:
        return f"(SELECT * FROM {Slice(self.table, self.months)} WHERE {self.condition})"


def features_see_no_future(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    """One verdict a month: rows made again without anything recorded after a cut-off are the same.

    Features are made from a patient's own rows only, so every patient of the sample can have another cut-off, the
    middle of one of the months: one query looks at the whole range. A difference means a leak, or that a source changed
    after the features were made.
    """
    warehouse.ensure(FEATURE_TABLE, *SILVER.values())
    stored = Slice(FEATURE_TABLE, months)
    names = FEATURE_TABLE.column_names[2:]
    differ = ", ".join(f'count(*) FILTER (s."{name}" IS DISTINCT FROM m."{name}")' for name in names)
    cut_off = (
        f"(TIMESTAMP '{months.first}' + to_months((hash(patient_key, 'cut') % {len(months)})::INTEGER)"
        " + INTERVAL 15 DAY)"
    )
    with warehouse.read(f"features without the future {months}") as connection:
        counted = connection.execute(f"SELECT count(DISTINCT patient_key) FROM {stored}").fetchone()
        sample = SAMPLE_PATIENTS + SAMPLE_PATIENTS_PER_MONTH * len(months)
        every = max(1, (counted[0] if counted else 0) // sample)
        sampled = f"hash(patient_key) % {every} = 0"
        past = {
            name: _PastSlice(
                SILVER[table],
                MonthRange(_BEGINNING if name == "patients" else shift(months.first, -LOOKBACK_MONTHS), months.last),
                condition=f"{sampled} AND {KNOWN_AT[name]} <= {cut_off}",
            )
            for name, table in _TABLES.items()
        }
        query = features_query(**past, months=months, settings=settings)
        found = connection.execute(
            f"""
            SELECT month, count(*), count(*) FILTER (s.encounter_id IS NULL OR m.encounter_id IS NULL), {differ}
            FROM (SELECT * FROM {stored} WHERE {sampled} AND discharged_at <= {cut_off}) AS s
            FULL JOIN ({query.sql}) AS m USING (month, encounter_id)
            GROUP BY month"""
        ).fetchall()
    rows = {row[0]: row[1:] for row in found}
    return [_verdict(month, names, rows.get(month, (0,) * (2 + len(names)))) for month in months]


def _verdict(month: Month, names: tuple[str, ...], counts: tuple[int, ...]) -> Verdict:
    rows, lost = counts[:2]
    changed = [name for name, count in zip(names, counts[2:], strict=True) if count]
    if lost or changed:
        summary = (
            f"{lost:,} of {rows:,} rows appear or vanish and these features change when the future is taken away:"
            f" {', '.join(changed[:10]) or 'none'}; a leak, or features older than their sources"
        )
    else:
        summary = f"{rows:,} rows are the same without what was recorded after a cut-off in the middle of a month"
    return Verdict(
        month,
        passed=not lost and not changed,
        summary=summary,
        numbers={"rows": rows, "rows_lost": lost, "features_changed": len(changed)},
    )
