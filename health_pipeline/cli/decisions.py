"""``health-pipeline decisions``: the decision log for people and machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as View

from health_pipeline.monitoring.decisions import Decision


def print_decisions(found: Sequence[Decision], *, as_json: bool) -> None:
    """Print decisions, oldest first; as JSON with every criterion."""
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=2, default=str))  # noqa: T201
        return
    view = View("month", "decision", "in force", "challenger", "did not pass", "near misses")
    for each in found:
        view.add_row(
            f"{each.month:%Y-%m}",
            each.decision,
            each.model_id or "-",
            each.challenger_id or "-",
            ", ".join(each.failed) or "-",
            ", ".join(each.near_misses) or "-",
        )
    Console().print(view if found else "no decision was made yet")
