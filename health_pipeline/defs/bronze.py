"""Bronze: extracts as landed. One asset per landing table."""

from __future__ import annotations

import dagster as dg

from health_pipeline.contracts import BRONZE
from health_pipeline.defs.monthly import monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query

# Object storage can fail for a moment; a corrupt file fails again and then fails the run.
LANDING_RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``bronze/<table>`` for each landing table."""
    remote = settings.landing_uri.startswith("s3://")
    return [
        monthly_asset(
            table,
            lambda _context, months, _slices, name=name: bronze_query(name, months, settings),
            partitions=partitions.extracts,
            kinds={"duckdb", "bronze"},
            retry=LANDING_RETRY if remote else None,
        )
        for name, table in BRONZE.items()
    ]
