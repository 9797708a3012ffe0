"""Golden examples lie beside each adapter: foreign files in ``golden/input``, landing rows in ``golden/expected``.

After a deliberate change, ``UPDATE_GOLDEN=1 pytest <this file>`` writes the expected rows anew; read the difference.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import duckdb
import pytest

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.settings import load_settings
from health_pipeline.sources.adapters import ADAPTERS, Adapter
from health_pipeline.sources.ingest import ingest
from health_pipeline_tests.sources.through_contracts import through_contracts


def landed_rows(landing: Path, table: str) -> list[list[str]]:
    """Header and rows of a landed table as text, with the month of the file in front."""
    if not any((landing / table).glob("*.parquet")):
        return []
    rows = duckdb.sql(f"""
        SELECT regexp_extract(filename, '(\\d{{4}}-\\d{{2}})\\.parquet$', 1) AS month, * EXCLUDE (filename)
        FROM read_parquet('{landing}/{table}/*.parquet', filename = true, union_by_name = true) ORDER BY ALL""")
    return [rows.columns, *([("" if value is None else str(value)) for value in row] for row in rows.fetchall())]


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=lambda adapter: adapter.name)
def test_golden_example(adapter: Adapter, tmp_path: Path) -> None:
    golden = adapter.folder / "golden"
    assert golden.is_dir(), "every adapter needs a golden example"
    settings = load_settings(home=tmp_path)
    report = ingest(adapter.name, golden / "input", settings)
    for table in LANDING_TABLES:
        rows = landed_rows(tmp_path / "landing", table)
        path = golden / "expected" / f"{table}.csv"
        if os.environ.get("UPDATE_GOLDEN"):
            _write(path, rows)
        expected = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
        assert rows == expected, f"{adapter.name}/{table}"
    contracts = through_contracts(report.months, settings)
    assert contracts.rejected() == {}
    assert contracts.count("silver.admissions") == report.rows["admissions"]


def _write(path: Path, rows: list[list[str]]) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
