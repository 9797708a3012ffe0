"""Bronze: extracts as landed. One asset per landing table.

Each month's materialisation keeps the fingerprint of the files it was read from: what lies in the landing zone with
another one is new or corrected.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from health_pipeline.contracts import BRONZE
from health_pipeline.defs.monthly import monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.months import MonthRange, month_key
from health_pipeline.settings import Settings
from health_pipeline.sources.arrivals import table_arrivals
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Query, Slice

# Object storage can fail for a moment; a corrupt file fails again and then fails the run.
LANDING_RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


FINGERPRINT = "landed_files"
"""Metadata of a bronze month: fingerprint of its landed files; absent where none lay there."""


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``bronze/<table>`` for each landing table."""
    retry = LANDING_RETRY if settings.landing_uri.startswith("s3://") else None

    def landed(name: str) -> dg.AssetsDefinition:
        def compute(context: dg.AssetExecutionContext, months: MonthRange, _slices: Mapping[str, Slice]) -> Query:
            # Looked at before the files are read: one that changes meanwhile is found to differ afterwards.
            for month, arrival in table_arrivals(name, settings).items():
                if month in months:
                    context.add_asset_metadata({FINGERPRINT: arrival.fingerprint}, partition_key=month_key(month))
            return bronze_query(name, months, settings)

        return monthly_asset(
            BRONZE[name], compute, partitions=partitions.extracts, kinds={"duckdb", "bronze"}, retry=retry
        )

    return [landed(name) for name in BRONZE]
