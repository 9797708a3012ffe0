"""All checks of landing, silver and quarantine."""

from __future__ import annotations

from health_pipeline.contracts.silver_checks import silver_checks
from health_pipeline.contracts.source_checks import source_checks
from health_pipeline.verdicts import Check

CHECKS: tuple[Check, ...] = (*source_checks(), *silver_checks())
