"""Bronze, silver and gold as plain steps: the very queries of the graph, without Dagster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.warehouse.landing import Scale
from health_pipeline import cohort, features
from health_pipeline.contracts import BRONZE, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.months import MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Query, Slice, Table


@dataclass(frozen=True)
class Step:
    """One asset: its table, the months it fills, what it reads and what it runs."""

    table: Table
    months: MonthRange
    inputs: tuple[Slice, ...]
    query: Callable[[], Query]


def settings_of(home: Path, landing: Path, scale: Scale, threads: int = 0) -> Settings:
    """Settings of a benchmark home."""
    return Settings(
        home=home,
        landing=str(landing),
        start_month=scale.range.first,
        end_month=scale.range.last,
        warehouse={"threads": threads},
        privacy={"pseudonym_key": "a key for benchmarks only"},
    )


def steps(settings: Settings, months: MonthRange) -> Iterator[Step]:
    """All assets from bronze to gold, upstream first, for ``months`` (labels: without the open last month)."""
    every = MonthRange(settings.start_month, months.last)
    for name, table in BRONZE.items():
        yield Step(table, months, (), lambda name=name: bronze_query(name, months, settings))
    bronze = {name: Slice(table, months) for name, table in BRONZE.items()}
    for name, table in SILVER.items():
        yield Step(table, months, (bronze[name],), lambda name=name: silver_query(name, bronze[name], settings))
    yield Step(REJECTED_ROWS, months, tuple(bronze.values()), lambda: rejected_query(bronze, settings))

    def seen(before: int, after: int = 0) -> dict[str, Slice]:
        first = max(settings.start_month, shift(months.first, -before))
        window = MonthRange(first, min(settings.months.last, shift(months.last, after)))
        slices = {name: Slice(table, window) for name, table in SILVER.items()}
        return slices | {"patients": Slice(SILVER["patients"], every)}

    of_features = seen(features.LOOKBACK_MONTHS)
    yield Step(
        features.FEATURE_TABLE,
        months,
        tuple(of_features.values()),
        lambda: features.features_query(
            of_features["admissions"],
            of_features["patients"],
            of_features["clinical_events"],
            of_features["claims"],
            months,
            settings,
        ),
    )
    closed = MonthRange(months.first, min(months.last, shift(settings.months.last, -1)))
    for table, build, range_, after in (
        (cohort.LABELS, cohort.labels_query, closed, 1),
        (cohort.ATTRITION, cohort.attrition_query, months, 0),
    ):
        of_cohort = seen(cohort.LOOKBACK_MONTHS, after)
        yield Step(
            table,
            range_,
            tuple(slices for name, slices in of_cohort.items() if name != "claims"),
            lambda build=build, slices=of_cohort, range_=range_: build(
                slices["admissions"], slices["patients"], slices["clinical_events"], range_, settings
            ),
        )
