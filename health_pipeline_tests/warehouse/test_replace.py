"""Replacing months: the same promises on every backend."""

from __future__ import annotations

import dataclasses
import datetime as dt
import resource

import pyarrow as pa
import pytest

from health_pipeline.errors import SliceError, WarehouseError
from health_pipeline.months import MonthRange
from health_pipeline.warehouse import Column, Query, Slice, Table, Warehouse
from health_pipeline_tests.warehouse.conftest import VISITS, rows_of, visits

JANUARY = MonthRange.of("2022-01")
QUARTER = MonthRange.of("2022-01", "2022-03")
YEAR = MonthRange.of("2022-01", "2022-12")


def content(warehouse: Warehouse) -> list[tuple]:
    return rows_of(warehouse, f"SELECT * FROM {Slice(VISITS, YEAR)} ORDER BY ALL")


def test_a_range_gives_the_rows_counts_and_hashes_of_single_months(warehouse: Warehouse) -> None:
    together = warehouse.replace(VISITS, QUARTER, visits("2022-01", 3))
    rows = content(warehouse)
    alone = [warehouse.replace(VISITS, MonthRange(m, m), visits(f"{m:%Y-%m}"))[0] for m in QUARTER]
    assert [report.rows for report in together] == [5, 5, 5]
    assert together == alone
    assert content(warehouse) == rows
    assert warehouse.reports(VISITS, QUARTER) == together


def test_other_months_are_untouched(warehouse: Warehouse) -> None:
    first = warehouse.replace(VISITS, QUARTER, visits("2022-01", 3))
    changed = warehouse.replace(VISITS, MonthRange.of("2022-02"), visits("2022-02", cost=2.0, rows=3))
    after = warehouse.reports(VISITS, QUARTER)
    assert after == [first[0], changed[0], first[2]]
    assert changed[0].content_hash != first[1].content_hash


def test_sql_arrow_table_and_arrow_stream_give_the_same_slice(warehouse: Warehouse) -> None:
    by_sql = warehouse.replace(VISITS, QUARTER, visits("2022-01", 3, rows=50))
    rows = warehouse.fetch(f"SELECT * FROM {Slice(VISITS, QUARTER)}", "test")
    shuffled = rows.take(pa.array(range(rows.num_rows - 1, -1, -1))).select(VISITS.column_names[::-1])
    assert warehouse.replace(VISITS, QUARTER, shuffled) == by_sql
    stream = warehouse.stream(f"SELECT * FROM {Slice(VISITS, QUARTER)}", "test")
    assert isinstance(stream, pa.RecordBatchReader)
    assert warehouse.replace(VISITS, QUARTER, stream) == by_sql


def test_an_unwritten_table_reads_as_empty(warehouse: Warehouse) -> None:
    assert not warehouse.exists(VISITS)
    warehouse.ensure(VISITS)
    assert warehouse.exists(VISITS)
    assert content(warehouse) == []
    assert warehouse.reports(VISITS, JANUARY)[0].rows == 0


REFUSED = {
    "row outside the months": (
        Query(f"SELECT * REPLACE (DATE '2023-01-01' AS month) FROM ({visits('2022-01').sql})"),
        "5 of 5 rows lie outside the months",
    ),
    "month that is not a first day": (
        Query(f"SELECT * REPLACE (DATE '2022-01-02' AS month) FROM ({visits('2022-01').sql})"),
        "5 of 5 rows lie outside the months",
    ),
    "repeated key": (
        Query(f"SELECT * REPLACE ('v1' AS visit_id) FROM ({visits('2022-01').sql})"),
        "4 rows repeat a key (visit_id)",
    ),
    "missing column": (Query(f"SELECT * EXCLUDE (cost) FROM ({visits('2022-01').sql})"), "missing columns: cost"),
    "undeclared column": (Query(f"SELECT *, 1 AS age FROM ({visits('2022-01').sql})"), "undeclared columns: age"),
    "wrong type": (
        Query(f"SELECT * REPLACE (cost::VARCHAR AS cost) FROM ({visits('2022-01').sql})"),
        "wrong types: cost VARCHAR (declared DOUBLE)",
    ),
    "null where none may be": (
        Query(f"SELECT * REPLACE (NULL::VARCHAR AS visit_id) FROM ({visits('2022-01').sql})"),
        "NOT NULL",
    ),
    "error in the middle of the query": (
        Query(f"SELECT * REPLACE (CASE WHEN visit_id = 'v4' THEN error('boom') ELSE cost END::DOUBLE AS cost) "
              f"FROM ({visits('2022-01').sql})"),
        "boom",
    ),
    "no rows where some must be": (
        Query(f"{visits('2022-01').sql} LIMIT 0", allow_empty=False),
        "no rows",
    ),
}  # fmt: skip


def test_refused_rows_leave_the_old_slice(warehouse: Warehouse) -> None:
    warehouse.replace(VISITS, QUARTER, visits("2022-01", 3, cost=7.0))
    before = content(warehouse)
    for case, (query, complaint) in REFUSED.items():
        with pytest.raises(SliceError) as refused:
            warehouse.replace(VISITS, JANUARY, query)
        assert complaint in str(refused.value), case
        assert "gold.visits" in str(refused.value), case
        assert content(warehouse) == before, case
    assert warehouse.replace(VISITS, JANUARY, visits("2022-01"))[0].rows == 5  # the warehouse is still usable


def test_failing_months_are_named(warehouse: Warehouse) -> None:
    query = Query(
        f"SELECT * REPLACE (CASE WHEN month = DATE '2022-02-01' THEN 'same' ELSE visit_id END AS visit_id) "
        f"FROM ({visits('2022-01', 3).sql})"
    )
    with pytest.raises(SliceError, match=r"gold\.visits in 2022-02 "):
        warehouse.replace(VISITS, QUARTER, query)


def test_an_error_shows_no_value_of_a_row(file_warehouse: Warehouse) -> None:
    secret = "Jane Doe 1950"
    query = Query(f"SELECT * REPLACE (('{secret}' || cost)::DOUBLE AS cost) FROM ({visits('2022-01').sql})")
    with pytest.raises(SliceError) as refused:
        file_warehouse.replace(VISITS, JANUARY, query)
    assert secret not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_columns_of_a_wider_or_equal_type_are_taken(warehouse: Warehouse) -> None:
    eight_o_clock = dt.datetime(2022, 1, 1, 8)  # noqa: DTZ001 hospital local time
    rows = pa.table(
        {
            "visit_id": pa.array(["a", "b"]).dictionary_encode(),
            "month": pa.array([dt.date(2022, 1, 1)] * 2),
            "planned": pa.nulls(2),
            "cost": pa.array([1, 2], pa.int32()),
            "seen_at": pa.array([eight_o_clock] * 2, pa.timestamp("ns")),
        }
    )
    warehouse.replace(VISITS, JANUARY, rows)
    assert content(warehouse)[0] == (dt.date(2022, 1, 1), "a", 1.0, eight_o_clock, None)


def test_a_new_nullable_column_is_added(settings, warehouse: Warehouse) -> None:
    warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    wider = dataclasses.replace(VISITS, columns=(*VISITS.columns, Column("ward", "VARCHAR")))
    february = Query(f"SELECT *, 'north' AS ward FROM ({visits('2022-02').sql})")
    warehouse.replace(wider, MonthRange.of("2022-02"), february)
    wards = rows_of(warehouse, f"SELECT DISTINCT month, ward FROM {Slice(wider, YEAR)} ORDER BY month")
    assert wards == [(dt.date(2022, 1, 1), None), (dt.date(2022, 2, 1), "north")]


CHANGED = {
    "dropped": (VISITS.columns[:-1], "'planned' is stored but not declared"),
    "retyped": ((*VISITS.columns[:-1], Column("planned", "VARCHAR")), "stored as BOOLEAN, declared as VARCHAR"),
    "added as not null": ((*VISITS.columns, Column("ward", "VARCHAR", nullable=False)), "is new and may not be NULL"),
}


def test_any_other_change_of_the_declaration_is_refused_with_a_remedy(warehouse: Warehouse) -> None:
    warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    before = content(warehouse)
    for change, (columns, complaint) in CHANGED.items():
        changed = Table("gold", "visits", columns, ("visit_id",))
        with pytest.raises(WarehouseError, match=complaint) as refused:
            warehouse.ensure(changed)
        assert refused.value.remedy, change
        with pytest.raises(WarehouseError, match=complaint):
            warehouse.replace(changed, JANUARY, visits("2022-01"))
    assert content(warehouse) == before


def test_hashes_depend_on_every_column_and_on_repetition(file_warehouse: Warehouse) -> None:
    loose = Table("gold", "loose", VISITS.columns, VISITS.column_names)
    base = visits("2022-01").sql
    variants = {
        "base": base,
        "cost": f"SELECT * REPLACE (cost + 1e-9 AS cost) FROM ({base})",
        "null": f"SELECT * REPLACE (NULL::BOOLEAN AS planned) FROM ({base})",
        "time": f"SELECT * REPLACE (seen_at + INTERVAL 1 MICROSECOND AS seen_at) FROM ({base})",
        "fewer": f"SELECT * FROM ({base}) WHERE visit_id <> 'v0'",
        "swapped": f"SELECT * REPLACE (CASE visit_id WHEN 'v1' THEN 2.0 WHEN 'v2' THEN 1.0 ELSE cost END AS cost) "
        f"FROM ({base})",
    }
    hashes = {
        name: file_warehouse.replace(loose, JANUARY, Query(sql))[0].content_hash for name, sql in variants.items()
    }
    assert len(set(hashes.values())) == len(variants), hashes
    again = file_warehouse.replace(loose, JANUARY, Query(f"SELECT * FROM ({base}) ORDER BY visit_id DESC;"))
    assert again[0].content_hash == hashes["base"]


@pytest.mark.parametrize("kind", ["table", "stream"])
def test_a_commit_that_finds_the_disk_full_stores_nothing_and_says_so(file_warehouse: Warehouse, kind: str) -> None:
    before = file_warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    rows = file_warehouse.fetch(visits("2022-01", rows=60_000, cost=1.37).sql, "test")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Few enough rows to be written at the commit and no earlier; the limit on files stands in for a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, unlimited[1]))
    try:
        # A lost race is tried again; this is none: a stream would have been empty the second time, and so the month.
        with pytest.raises(WarehouseError, match="Failed to commit: Could not write"):
            file_warehouse.replace(VISITS, JANUARY, rows.to_reader() if kind == "stream" else rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert file_warehouse.reports(VISITS, JANUARY) == before
    assert file_warehouse.replace(VISITS, JANUARY, rows)[0].rows == 60_000
