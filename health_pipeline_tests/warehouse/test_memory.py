"""Memory is bounded by the settings, whatever the size of a slice: DuckDB spills, streams lie on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from health_pipeline.errors import SliceError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Query, Warehouse
from health_pipeline_tests.warehouse.conftest import VISITS, visits

ROWS, LIMIT_MIB = 1_500_000, 64
PROGRAM = f"""
import json, resource, sys
from pathlib import Path
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Column, Query, Slice, Table, Warehouse
import pyarrow

NOTES = Table("gold", "notes", (Column("month", "DATE"), Column("i", "BIGINT"), Column("note", "VARCHAR")), ("i",))
months = MonthRange.of("2022-01", "2022-02")
settings = Settings(home=Path(sys.argv[1]), warehouse={{"memory_limit": "{LIMIT_MIB}MiB", "threads": 1}})
warehouse = Warehouse.from_settings(settings)
warehouse.ensure(NOTES)
mib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = mib()
reports = warehouse.replace(NOTES, months, Query('''
    SELECT (DATE '2022-01-01' + to_months((i % 2)::INT))::DATE AS month, i,
        md5(i::VARCHAR) || md5((-i)::VARCHAR) || md5((i // 7)::VARCHAR) AS note
    FROM range({ROWS}) AS r(i) ORDER BY hash(i)'''))
replaced = mib()
rows = size = 0
for batch in warehouse.stream(f"SELECT * FROM {{Slice(NOTES, months)}} ORDER BY i", "train"):
    rows, size = rows + batch.num_rows, size + batch.nbytes / 2**20
left = [path.name for path in warehouse.backend.spill.glob("*")]
found = {{"stored": sum(report.rows for report in reports), "streamed": rows, "data_mib": size, "left": left}}
print(json.dumps({{**found, "replacing_mib": replaced - before}}))
"""


@pytest.mark.slow
def test_months_larger_than_the_memory_limit_are_replaced_verified_and_streamed(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert (seen["stored"], seen["streamed"], seen["left"]) == (ROWS, ROWS, [])
    assert seen["data_mib"] > 2.4 * LIMIT_MIB
    assert seen["replacing_mib"] < 2 * LIMIT_MIB


def test_what_cannot_spill_names_the_settings_and_leaves_the_old_slice(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"memory_limit": "32MiB", "threads": 1}))
    january = MonthRange.of("2022-01")
    before = warehouse.replace(VISITS, january, visits("2022-01"))
    in_one_piece = "(SELECT len(list(md5(i::VARCHAR))) FROM range(1_000_000) AS r(i))"
    greedy = Query(f"SELECT * REPLACE ({in_one_piece}::DOUBLE AS cost) FROM ({visits('2022-01').sql})")
    with pytest.raises(SliceError, match="OutOfMemory") as refused:
        warehouse.replace(VISITS, january, greedy)
    assert "HEALTH_PIPELINE_WAREHOUSE__MEMORY_LIMIT" in str(refused.value)
    assert warehouse.reports(VISITS, january) == before


def test_a_range_is_asked_for_in_shorter_stretches_while_memory_is_short(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"memory_limit": "40MiB", "threads": 1}))
    asked: list[int] = []

    def query(months: MonthRange) -> Query:
        # A list of so many hashes for each month, all at once: it cannot spill, and four months of it do not fit.
        asked.append(len(months))
        size = f"(SELECT len(list(md5(i::VARCHAR))) FROM range({100_000 * len(months)}) AS r(i))"
        sql = visits(f"{months.first:%Y-%m}", len(months)).sql
        return Query(f"SELECT * REPLACE (cost + 0 * {size} AS cost) FROM ({sql})", for_months=query)

    months = MonthRange.of("2022-01", "2022-04")
    reports = warehouse.replace(VISITS, months, query(months))
    assert asked[0] == 4
    assert max(asked[-2:]) < 4
    assert reports == warehouse.replace(VISITS, months, visits("2022-01", 4))
