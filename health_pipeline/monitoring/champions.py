"""Which model was in force in which month, and which months it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.modeling.windows import Windows, windows_of
from health_pipeline.months import Month, MonthRange

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice


@dataclass(frozen=True)
class Champion:
    """Model in force.

    Attributes:
        model_id: its name.
        model_month: month it was trained for.
        windows: months it was fitted and judged on; None when the history was too short for a model.
        artefact_path: folder of the bundle, relative to the home; None when it is not known.
        artefact_hash: content hash of that folder.
    """

    model_id: str
    model_month: Month
    windows: Windows | None
    artefact_path: str | None = None
    artefact_hash: str | None = None


def champions(connection: DuckDBPyConnection, champion: Slice, settings: Settings) -> dict[Month, Champion]:
    """Champion of each month that has one.

    Its windows are those it was made with: the settings may have changed since, and a champion can serve for years.
    They are counted back by the settings where its own row is not there.
    """
    found = connection.execute(
        "SELECT month, model_id, coalesce(model_month, month), artefact_path, artefact_hash "
        f"FROM {champion} WHERE model_id IS NOT NULL ORDER BY month"
    ).fetchall()
    known = _windows(connection, {model_id for _, model_id, *_ in found})
    return {
        month: Champion(
            model_id,
            model_month,
            known.get(model_id) or windows_of(model_month, settings.windows, settings.start_month),
            *artefact,
        )
        for month, model_id, model_month, *artefact in found
    }


def _windows(connection: DuckDBPyConnection, models: set[str]) -> dict[str, Windows]:
    """Windows by model, from the rows of the candidates."""
    families = connection.execute(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'models' AND column_name = 'training_first' ORDER BY ALL"
    ).fetchall()
    found: dict[str, Windows] = {}
    for (family,) in families:
        rows = connection.execute(
            "SELECT model_id, training_first, training_last, validation_first, validation_last, holdout_first, "
            f'holdout_last FROM models."{family}" '
            "WHERE list_contains($models, model_id) AND training_first IS NOT NULL",
            {"models": sorted(models)},
        ).fetchall()
        for model_id, *bounds in rows:
            found[model_id] = Windows(*(MonthRange(*bounds[start : start + 2]) for start in (0, 2, 4)))
    return found
