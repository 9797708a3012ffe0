"""Listing quarantine, and finding out what another try would change."""

import pytest

from health_pipeline.contracts import BRONZE, LANDING_TABLES, REJECTED_ROWS, rejected_query
from health_pipeline.contracts.declarations import Rule
from health_pipeline.contracts.quarantine_review import list_rejected, months_to_run, retries
from health_pipeline.months import MonthRange
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import land, row

MONTHS = MonthRange.of("2023-01", "2023-02")


def stays(day, bad):
    times = {"admitted_at": f"{day}-01", "discharged_at": f"{day}-02"}
    good = [row("admissions", encounter_id=f"{day}-{n}", **times) for n in range(5)]
    return [*good, *(row("admissions", encounter_id=None, **times) for _ in range(bad))]


@pytest.fixture
def warehouse(settings):
    land(settings, "admissions", "2023-01", [*stays("2023-01", 7), row("admissions", is_planned="?")])
    land(settings, "admissions", "2023-02", stays("2023-02", 1))
    warehouse = Warehouse.from_settings(settings)
    for name in ("admissions", "claims"):
        warehouse.replace(BRONZE[name], MONTHS, bronze_query(name, MONTHS, settings))
    warehouse.ensure(*BRONZE.values())
    rejected = rejected_query({name: Slice(table, MONTHS) for name, table in BRONZE.items()}, settings)
    warehouse.replace(REJECTED_ROWS, MONTHS, rejected)
    return warehouse


def test_rejected_rows_are_listed_by_rule_with_their_place(warehouse):
    first, second, third = list_rejected(warehouse, MONTHS)
    assert (first.rule, first.rows, first.source_rows) == ("encounter_id_missing", 7, (6, 7, 8, 9, 10))
    assert (first.reason, first.source_file) == ("encounter_id has no value", "admissions/2023-01.csv")
    assert (second.rule, second.rows, second.source_rows) == ("is_planned_not_boolean", 1, (13,))
    assert (third.month, third.rows) == (MONTHS.last, 1)
    assert list_rejected(warehouse, MONTHS, "claims") == []
    assert len(list_rejected(warehouse, MONTHS, "admissions")) == 3


def test_nothing_is_due_while_neither_file_nor_rule_has_changed(warehouse, settings):
    found = retries(warehouse, MONTHS, settings)
    assert [(each.rejected_now, each.rejected_then, each.file_changed, each.is_due) for each in found] == [
        (8, 8, False, False),
        (1, 1, False, False),
    ]
    assert months_to_run(found) == []


def test_a_mended_file_is_due(warehouse, settings):
    land(settings, "admissions", "2023-02", stays("2023-02", 0))
    _, february = retries(warehouse, MONTHS, settings)
    assert (february.rejected_now, february.rejected_then, february.file_changed) == (1, 0, True)
    assert months_to_run([february]) == [MONTHS.last]


def test_a_changed_rule_is_due(warehouse, settings):
    older = Rule("taken_out_since", "", "")
    stored = f"SELECT * REPLACE ('{older.name}' AS rule) FROM {Slice(REJECTED_ROWS, MONTHS)} WHERE month = '2023-02-01'"
    warehouse.replace(REJECTED_ROWS, MonthRange.of("2023-02"), warehouse.fetch(stored, "an older rule"))
    _, february = retries(warehouse, MONTHS, settings)
    assert (february.file_changed, february.is_due) == (False, True)
    (listed,) = list_rejected(warehouse, MonthRange.of("2023-02"))
    assert listed.reason == "the rule is no longer in the contract"


def test_a_file_that_cannot_be_read_is_told_and_not_due(warehouse, settings):
    land(settings, "admissions", "2023-01", []).write_bytes(b"")
    january, _ = retries(warehouse, MONTHS, settings)
    assert "2023-01 is empty" in january.fault
    assert (january.rejected_then, january.is_due) == (None, False)


def test_an_empty_warehouse_has_nothing_to_review(settings):
    warehouse = Warehouse.from_settings(settings)
    assert list_rejected(warehouse, MONTHS) == []
    assert retries(warehouse, MONTHS, settings) == []
    with pytest.raises(KeyError):
        list_rejected(warehouse, MONTHS, "no such table")
    assert set(LANDING_TABLES) == set(BRONZE)
