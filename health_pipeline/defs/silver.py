"""Silver: typed, deduplicated, pseudonymised rows, and the quarantine of those that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from health_pipeline.contracts import BRONZE, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.defs.monthly import Input, monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Query, Slice


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``silver/<table>`` for each landing table, and ``quarantine/rejected_rows``."""

    def typed(name: str) -> dg.AssetsDefinition:
        def compute(_context: object, _months: MonthRange, slices: Mapping[str, Slice]) -> Query:
            return silver_query(name, slices["bronze"], settings)

        return monthly_asset(
            SILVER[name],
            compute,
            inputs={"bronze": Input(BRONZE[name])},
            partitions=partitions.extracts,
            kinds={"duckdb", "silver"},
        )

    rejected = monthly_asset(
        REJECTED_ROWS,
        lambda _context, _months, slices: rejected_query(slices, settings),
        inputs={name: Input(table) for name, table in BRONZE.items()},
        partitions=partitions.extracts,
        kinds={"duckdb"},
        group="silver",
    )
    return [*(typed(name) for name in SILVER), rejected]
