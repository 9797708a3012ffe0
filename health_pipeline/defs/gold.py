"""Gold: features at the moment of discharge, matured labels, and the attrition of the cohort."""

from __future__ import annotations

import dagster as dg

from health_pipeline import cohort, features
from health_pipeline.cohort.definition import load_definition
from health_pipeline.contracts import SILVER
from health_pipeline.defs.monthly import Input, monthly_asset
from health_pipeline.defs.partitions import HISTORY_MONTHS, Partitions
from health_pipeline.settings import Settings


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``gold/features``, ``gold/labels`` and ``gold/cohort_attrition``."""

    def cohort_inputs(after: int) -> dict[str, Input]:
        back = cohort.LOOKBACK_MONTHS
        return {
            "admissions": Input(SILVER["admissions"], before=back, after=after),
            "patients": Input(SILVER["patients"], before=HISTORY_MONTHS, after=after),
            "events": Input(SILVER["clinical_events"], before=back, after=after),
        }

    cohort_version = load_definition(settings.cohort.definition).cohort_version
    looks_back = features.LOOKBACK_MONTHS - 1  # it counts the month itself
    feature_inputs = {
        "admissions": Input(SILVER["admissions"], before=looks_back),
        "patients": Input(SILVER["patients"], before=HISTORY_MONTHS),
        "events": Input(SILVER["clinical_events"], before=looks_back),
        "claims": Input(SILVER["claims"], before=looks_back),
    }
    return [
        monthly_asset(
            features.FEATURE_TABLE,
            lambda _context, months, slices: features.features_query(**slices, months=months, settings=settings),
            inputs=feature_inputs,
            partitions=partitions.extracts,
            kinds={"duckdb", "gold"},
            code_version=features.schema_hash(settings),
        ),
        monthly_asset(
            cohort.LABELS,
            lambda _context, months, slices: cohort.labels_query(**slices, months=months, settings=settings),
            inputs=cohort_inputs(after=1),
            partitions=partitions.labels,
            kinds={"duckdb", "gold"},
            code_version=cohort_version,
        ),
        monthly_asset(
            cohort.ATTRITION,
            lambda _context, months, slices: cohort.attrition_query(**slices, months=months, settings=settings),
            inputs=cohort_inputs(after=0),
            partitions=partitions.extracts,
            kinds={"duckdb", "gold"},
            code_version=cohort_version,
        ),
    ]
