"""Bronze: extracts as landed. One asset per landing table."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from health_pipeline.contracts import BRONZE
from health_pipeline.defs.monthly import monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Query, Slice

# Object storage can fail for a moment; a corrupt file fails again and then fails the run.
LANDING_RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``bronze/<table>`` for each landing table."""
    retry = LANDING_RETRY if settings.landing_uri.startswith("s3://") else None

    def landed(name: str) -> dg.AssetsDefinition:
        def compute(_context: object, months: MonthRange, _slices: Mapping[str, Slice]) -> Query:
            return bronze_query(name, months, settings)

        return monthly_asset(
            BRONZE[name], compute, partitions=partitions.extracts, kinds={"duckdb", "bronze"}, retry=retry
        )

    return [landed(name) for name in BRONZE]
