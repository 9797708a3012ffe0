"""The code location on one page."""

from __future__ import annotations

import dagster as dg

from health_pipeline.defs.build import build_definitions
from health_pipeline.settings import load_settings

defs: dg.Definitions = build_definitions(load_settings())
