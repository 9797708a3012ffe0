"""Simulate months of extracts of the built-in hospital and put them into the landing zone.

The hospital opens in ``settings.start_month`` (after a burn-in that is not landed). It lives month after month,
cheaply; rows are made only for the months that are asked for, each from its own random stream. So a month is the
same whether it is simulated alone, with others, or later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import structlog

from health_pipeline.errors import SourceError
from health_pipeline.months import Month, MonthRange, months_between, shift
from health_pipeline.settings import Settings
from health_pipeline.sources.extracts import LandingZone, Progress, landing_zone
from health_pipeline.sources.simulator.attributes import admissions, patients
from health_pipeline.sources.simulator.claims import claims
from health_pipeline.sources.simulator.events import clinical_events
from health_pipeline.sources.simulator.files import LandingFiles, refuse_beside_extracts
from health_pipeline.sources.simulator.hospital import Hospital, MonthOfCare, seconds
from health_pipeline.sources.simulator.random import Purpose, stream

log = structlog.get_logger(__name__)

REACH_MONTHS = 6
"""A month of care gives rise to rows up to this many months later (stay, claim lag, news of a death)."""

_MOMENT = {
    "admissions": "discharged_at",
    "patients": "recorded_at",
    "clinical_events": "recorded_at",
    "claims": "processed_at",
}


@dataclass(frozen=True)
class SimulationReport:
    """What was landed: the months, and the rows of each table."""

    months: MonthRange
    rows: Mapping[str, int]

    def __str__(self) -> str:
        tables = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        return f"simulated {self.months}: {tables} rows"


def simulate(months: MonthRange, settings: Settings, *, progress: Progress | None = None) -> SimulationReport:
    """Land months of the simulated hospital; simulated months that are already landed are replaced.

    Args:
        months: months to land, none before ``settings.start_month``.
        settings: ``simulator`` gives seed, size, faults and drift.
        progress: called with the name of each month that is done.

    Raises:
        SourceError: a month lies before the hospital's start, or the landing zone cannot be written or holds extracts
            of another source.
    """
    if months.first < settings.start_month:
        raise SourceError(
            f"the simulated hospital opens in {settings.start_month:%Y-%m}",
            where=f"months {months}",
            remedy="ask for later months, or set HEALTH_PIPELINE_START_MONTH",
        )
    totals: dict[str, int] = dict.fromkeys(_MOMENT, 0)
    with landing_zone(settings) as zone:
        refuse_beside_extracts(settings)
        files = LandingFiles(settings)
        try:
            for month, tables in _landed_months(months, settings):
                for name, count in _write(zone, files, settings, month, tables).items():
                    totals[name] += count
                if progress:
                    progress(f"{month:%Y-%m}")
        finally:
            files.close()
    log.info("simulated", months=str(months), **totals)
    return SimulationReport(months, totals)


def _write(
    zone: LandingZone, files: LandingFiles, settings: Settings, month: Month, tables: Mapping[str, pa.Table]
) -> dict[str, int]:
    index = months_between(settings.start_month, month)
    rows = {}
    for part, (name, table) in enumerate(tables.items()):
        rng = stream(settings.simulator.seed, index, Purpose.FAULTS, part)
        rows[name] = files.write(name, table, rng, zone.staged(name, month))
    zone.publish((name, month) for name in tables)
    return rows


def _landed_months(months: MonthRange, settings: Settings) -> Iterator[tuple[Month, dict[str, pa.Table]]]:
    """Typed rows of each month, as soon as no later month of care can add to them."""
    start = settings.start_month
    first, last = months_between(start, months.first), months_between(start, months.last)
    hospital = Hospital(start, settings.simulator)
    waiting: dict[tuple[str, int], list[pa.Table]] = defaultdict(list)
    empty: dict[str, pa.Table] = {}
    while hospital.index <= last:
        care = hospital.advance()
        if care.index >= max(-1, first - REACH_MONTHS):
            for name, table in _rows(care, settings).items():
                empty[name] = table.slice(0, 0)
                for index, part in _by_month(table, _MOMENT[name], start):
                    if first <= index <= last:
                        waiting[name, index].append(part)
        if first <= care.index:
            yield (
                shift(start, care.index),
                {name: _ordered(waiting.pop((name, care.index), [empty[name]]), _MOMENT[name]) for name in _MOMENT},
            )


def _rows(care: MonthOfCare, settings: Settings) -> dict[str, pa.Table]:
    """All rows a month of care gives rise to.

    Of the month before the hospital's start only the patients and the stays that are still going on are landed.
    """
    if care.index < 0:
        opening = seconds(settings.start_month)
        going_on = care.stays.discharged_at >= opening
        nobody = replace(care.visits, person=care.visits.person[:0], age=care.visits.age[:0], at=care.visits.at[:0])
        care = replace(care, stays=care.stays.take(going_on), visits=nobody)
    seed = settings.simulator.seed
    return {
        "admissions": admissions(care),
        "patients": patients(care),
        "clinical_events": clinical_events(stream(seed, care.index, Purpose.EVENTS), care),
        "claims": claims(stream(seed, care.index, Purpose.CLAIMS), care),
    }


def _by_month(table: pa.Table, moment: str, start: Month) -> Iterator[tuple[int, pa.Table]]:
    """Parts of a table by landing month (months since the start; what is earlier lands in the first)."""
    origin = np.datetime64(f"{start:%Y-%m}", "M")
    index = (table[moment].to_numpy().astype("datetime64[M]") - origin).astype(np.int64).clip(min=0)
    for number in np.unique(index):
        yield int(number), table.filter(pa.array(index == number))


def _ordered(parts: list[pa.Table], moment: str) -> pa.Table:
    """One table in order of time: the order in which the simulator made the rows would tell who comes back."""
    return pa.concat_tables(parts).unify_dictionaries().sort_by(moment)
