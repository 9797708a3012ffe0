"""The pages of this room name what there is."""

from __future__ import annotations

from pathlib import Path

import health_pipeline
from health_pipeline.sources.adapters import ADAPTERS
from health_pipeline.sources.simulator.faults import FAULTS
from health_pipeline.sources.simulator.script import SCRIPT

DOCS = Path(health_pipeline.__file__).parents[1] / "docs"


def test_every_drift_event_and_fault_is_documented() -> None:
    page = (DOCS / "simulator.md").read_text()
    for event in SCRIPT:
        assert f"| {event.month} | `{event.name}` | {event.kind} | {event.what} | {event.expected} |" in page
    for table, faults in FAULTS.items():
        for fault in faults:
            assert f"| {table} | {fault.name.replace('_', ' ')} | {fault.fate} |" in page


def test_every_adapter_and_option_is_documented() -> None:
    page = (DOCS / "adapters.md").read_text()
    for adapter in ADAPTERS.values():
        assert f"### `{adapter.name}`" in page
        for option in adapter.options:
            assert f"`{option}`" in page
