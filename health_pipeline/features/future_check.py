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

# About so many patients of a month are looked at: a leak shows in a few rows, and the check stays cheap.
SAMPLE_PATIENTS = 400
# The first month any hospital could have landed; patients' attributes are read from the beginning.
_BEGINNING = dt.date(1900, 1, 1)


@dataclass(frozen=True)
class _PastSlice(Slice):
    """A slice without what was recorded after a moment, for a sample of the patients."""

    known_at: str = ""
    cut_off: dt.datetime | None = None
    every: int = 1

    def __str__(self) -> str:
        return (
            f"(SELECT * FROM {Slice(self.table, self.months)} WHERE {self.known_at} <= TIMESTAMP '{self.cut_off}'"
            f" AND hash(patient_key) % {self.every} = 0)"
        )


def features_see_no_future(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    """One verdict a month: rows discharged up to its middle, made again without anything recorded later, are the same.

    A difference means a leak, or that a source changed after the features were made.
    """
    warehouse.ensure(FEATURE_TABLE, *SILVER.values())
    return [_verdict(warehouse, month, settings) for month in months]


def _verdict(warehouse: Warehouse, month: Month, settings: Settings) -> Verdict:
    one = MonthRange(month, month)
    cut_off = dt.datetime.combine(month, dt.time()) + dt.timedelta(days=15)
    with warehouse.read(f"features without the future {month:%Y-%m}") as connection:
        counted = connection.execute(f"SELECT count(DISTINCT patient_key) FROM {Slice(FEATURE_TABLE, one)}").fetchone()
        every = max(1, (counted[0] if counted else 0) // SAMPLE_PATIENTS)
        past = {
            name: _PastSlice(
                SILVER[table],
                MonthRange(_BEGINNING if name == "patients" else shift(month, -LOOKBACK_MONTHS), month),
                None,
                KNOWN_AT[name],
                cut_off,
                every,
            )
            for name, table in (
                ("admissions", "admissions"),
                ("patients", "patients"),
                ("events", "clinical_events"),
                ("claims", "claims"),
            )
        }
        query = features_query(**past, months=one, settings=settings)
        names = FEATURE_TABLE.column_names[2:]
        differ = ", ".join(f'count(*) FILTER (s."{name}" IS DISTINCT FROM m."{name}")' for name in names)
        row = connection.execute(
            f"""
            SELECT count(*), count(*) FILTER (s.encounter_id IS NULL OR m.encounter_id IS NULL), {differ}
            FROM (
                SELECT * FROM {Slice(FEATURE_TABLE, one)}
                WHERE discharged_at <= TIMESTAMP '{cut_off}' AND hash(patient_key) % {every} = 0
            ) AS s
            FULL JOIN ({query.sql}) AS m ON m.month = s.month AND m.encounter_id = s.encounter_id"""
        ).fetchone()
    assert row is not None
    rows, lost = row[0], row[1]
    changed = [name for name, count in zip(names, row[2:], strict=True) if count]
    if lost or changed:
        summary = (
            f"{lost:,} of {rows:,} rows appear or vanish and these features change when the future is taken away:"
            f" {', '.join(changed[:10]) or 'none'}; a leak, or features older than their sources"
        )
    else:
        summary = f"{rows:,} rows are the same without what was recorded after {cut_off:%Y-%m-%d}"
    return Verdict(
        month,
        passed=not lost and not changed,
        summary=summary,
        numbers={"rows": rows, "rows_lost": lost, "features_changed": len(changed)},
    )
