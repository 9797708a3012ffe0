"""The code location on one page."""

from __future__ import annotations

import dagster as dg

from health_pipeline.environment import prepare_environment

prepare_environment()

from health_pipeline.defs.build import build_definitions  # noqa: E402
from health_pipeline.logs import configure_logging  # noqa: E402
from health_pipeline.settings import load_settings  # noqa: E402


def _load() -> dg.Definitions:
    settings = load_settings()
    configure_logging(settings, json=settings.log_format == "json", level=settings.log_level)
    return build_definitions(settings)


defs: dg.Definitions = _load()
