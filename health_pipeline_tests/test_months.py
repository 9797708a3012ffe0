import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health_pipeline.months import MonthRange, month_key, months_between, parse_month, shift

months = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31)).map(lambda day: day.replace(day=1))


@pytest.mark.parametrize("text", ["2022-01", "2022-01-01", " 2022-01 "])
def test_reads_both_spellings(text):
    assert parse_month(text) == dt.date(2022, 1, 1)


@pytest.mark.parametrize("text", ["2022-13", "2022-00", "2022-01-02", "2022", "0000-01", "", "22-01"])
def test_refuses_what_is_no_month(text):
    with pytest.raises(ValueError, match="not a month"):
        parse_month(text)


@given(months, st.integers(-1000, 1000))
def test_shift_and_distance_are_inverse(month, steps):
    assert months_between(month, shift(month, steps)) == steps
    assert shift(shift(month, steps), -steps) == month


@given(months, st.integers(0, 200))
def test_a_range_lists_every_month_once(month, length):
    months_in_range = list(MonthRange(month, shift(month, length)))
    assert len(months_in_range) == length + 1 == len(set(months_in_range))
    assert months_in_range == sorted(months_in_range)
    assert all(day.day == 1 for day in months_in_range)


def test_a_range_knows_its_keys_ends_and_members():
    months = MonthRange.of("2022-11", "2023-01")
    assert months.keys() == ["2022-11-01", "2022-12-01", "2023-01-01"]
    assert months.end == dt.date(2023, 2, 1)
    assert dt.date(2022, 12, 1) in months
    assert dt.date(2023, 2, 1) not in months
    assert months.widen(before=1, after=2) == MonthRange.of("2022-10", "2023-03")
    assert str(months) == "2022-11..2023-01"
    assert month_key(months.first) == "2022-11-01"


def test_a_range_never_runs_backwards():
    with pytest.raises(ValueError, match="before it begins"):
        MonthRange.of("2022-02", "2022-01")
    with pytest.raises(ValueError, match="first day"):
        MonthRange(dt.date(2022, 1, 2), dt.date(2022, 2, 1))


def test_stretches_cover_the_range_without_overlap():
    months = MonthRange.of("2022-11", "2023-03")
    assert [str(part) for part in months.stretches(2)] == ["2022-11..2022-12", "2023-01..2023-02", "2023-03"]
    assert months.stretches(5) == months.stretches(99) == [months]
