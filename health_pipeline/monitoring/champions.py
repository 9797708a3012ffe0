"""Which model was in force in which month."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.months import Month

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from health_pipeline.warehouse import Slice


@dataclass(frozen=True)
class Champion:
    """Model in force.

    Attributes:
        model_id: its name.
        model_month: month it was trained for; its windows are counted back from there.
        artefact_path: folder of the bundle, relative to the home; None when it is not known.
        artefact_hash: content hash of that folder.
    """

    model_id: str
    model_month: Month
    artefact_path: str | None = None
    artefact_hash: str | None = None


def champions(connection: DuckDBPyConnection, champion: Slice) -> dict[Month, Champion]:
    """Champion of each month that has one."""
    found = connection.execute(
        "SELECT month, model_id, coalesce(model_month, month), artefact_path, artefact_hash "
        f"FROM {champion} WHERE model_id IS NOT NULL ORDER BY month"
    ).fetchall()
    return {month: Champion(*rest) for month, *rest in found}
