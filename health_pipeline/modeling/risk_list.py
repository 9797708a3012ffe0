"""The risk list of a month: one model's predictions as a file, riskiest stay first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from health_pipeline.errors import ModelError
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.months import Month, MonthRange
from health_pipeline.warehouse import Slice, Warehouse

FORMATS = {".csv": "FORMAT csv, HEADER", ".parquet": "FORMAT parquet"}
COLUMNS = ("encounter_id", "probability", "label", "confidence", "model_id", "warnings")


@dataclass(frozen=True, slots=True)
class RiskList:
    """What was written: the month, its stays, and how many of them are flagged."""

    month: Month
    stays: int
    flagged: int


def write_risk_list(
    warehouse: Warehouse, path: Path, *, month: Month | None = None, role: str = "champion"
) -> RiskList:
    """Write a month's predictions to a file that only its owner can read, wholly or not at all.

    Args:
        warehouse: with ``gold.predictions``.
        path: ends in ``.csv`` or ``.parquet``; replaced when it exists. Its columns are ``COLUMNS``.
        month: of the discharges; the newest scored one when left out.
        role: ``champion``, or a candidate: ``model_1``, ``model_2``, ``model_3``.

    Raises:
        ModelError: another kind of file, no such folder, or nothing was scored.
    """
    if path.suffix not in FORMATS:
        raise ModelError(
            "a risk list is written as CSV or Parquet",
            where=str(path),
            remedy="name a file that ends in .csv or .parquet",
        )
    if not path.parent.is_dir():
        raise ModelError("the folder does not exist", where=str(path.parent), remedy="create it, or name another file")
    warehouse.ensure(PREDICTIONS)
    found = _count(warehouse, month, role)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    rows = f"{Slice(PREDICTIONS, MonthRange(found.month, found.month), (*COLUMNS, 'model_role'))} AS scored"
    target = str(unfinished).replace("'", "''")
    try:
        # DuckDB writes into this file; one that it created itself would be open to everybody the umask lets in.
        unfinished.touch(mode=0o600)
        with warehouse.read(f"risk list of {found.month:%Y-%m}") as connection:
            connection.execute(
                f"COPY (SELECT {', '.join(COLUMNS)} FROM {rows} WHERE model_role = ? "
                f"ORDER BY probability DESC, encounter_id) TO '{target}' ({FORMATS[path.suffix]}, USE_TMP_FILE false)",
                [role],
            )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return found


def _count(warehouse: Warehouse, month: Month | None, role: str) -> RiskList:
    with warehouse.read("stays of a risk list") as connection:
        row = connection.execute(
            f"SELECT month, count(*), count(*) FILTER (label) FROM {PREDICTIONS.qualified} "
            "WHERE model_role = $role AND month = coalesce($month, month) GROUP BY month ORDER BY month DESC LIMIT 1",
            {"role": role, "month": month},
        ).fetchone()
        if row is not None:
            return RiskList(*row)
        others = connection.execute(
            f"SELECT DISTINCT model_role FROM {PREDICTIONS.qualified} WHERE month = coalesce($month, month) ORDER BY 1",
            {"month": month},
        ).fetchall()
        remedy = "name a scored month (health-pipeline status), or score it: health-pipeline run --from YYYY-MM"
        if others:
            remedy = (
                f"there are predictions of {', '.join(name for (name,) in others)} (--role); "
                "health-pipeline decisions says which model is in force, and why none is"
            )
        raise ModelError(
            f"no prediction of {role} is stored" + (f" for {month:%Y-%m}" if month else ""),
            where=PREDICTIONS.qualified,
            remedy=remedy,
        )
