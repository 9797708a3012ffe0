"""What counts as landed, and what as changed."""

import datetime as dt
import os
import time
from pathlib import Path

import pytest

from health_pipeline.months import parse_month
from health_pipeline.settings import load_settings
from health_pipeline.sources.arrivals import arrivals, table_arrivals

JAN = parse_month("2024-01")
LATER = 4e9


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path, start_month="2024-01", end_month="2024-03")


def put(settings, name, content="encounter_id\nE1\n", written_at=1_000.0):
    path = Path(settings.landing_uri, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (written_at, written_at))
    return path


def test_a_month_has_landed_once_its_admissions_are_there(settings):
    put(settings, "claims/2024-01.csv")
    assert arrivals(settings, LATER) == {}
    put(settings, "admissions/2024-01.csv")
    assert arrivals(settings, LATER)[JAN].keys() == {"admissions", "claims"}


def test_a_month_with_a_fresh_file_may_still_be_arriving(settings):
    put(settings, "admissions/2024-01.csv")
    put(settings, "claims/2024-01.csv", written_at=time.time())
    assert arrivals(settings, time.time() - 20) == {}
    assert list(arrivals(settings, time.time() + 20)) == [JAN]


@pytest.mark.parametrize("table", ["admissions", "clinical_events"])
def test_what_was_written_while_the_month_ran_waits_for_the_whole_of_it(settings, table):
    written, closed = (dt.datetime(2024, *day, tzinfo=dt.UTC).timestamp() for day in ((1, 5), (2, 1)))
    put(settings, "admissions/2024-01.csv")
    put(settings, f"{table}/2024-01.csv", written_at=written)
    assert arrivals(settings, closed + 60) == {}, "part of the month"
    assert list(arrivals(settings, closed + 11 * 86_400)) == [JAN], "nothing else has come"
    put(settings, f"{table}/2024-01.csv", written_at=closed - 7_200)
    assert list(arrivals(settings, closed + 60)) == [JAN], "taken on the last evening"
    put(settings, f"{table}/2024-01.csv", written_at=closed + 30)
    assert list(arrivals(settings, closed + 60)) == [JAN]


def test_a_mistyped_month_disturbs_no_other(settings):
    for name in ("2024-01", "0001-01", "9999-12"):
        put(settings, f"admissions/{name}.csv")
    assert list(arrivals(settings, LATER)) == [parse_month("0001-01"), JAN, parse_month("9999-12")]


def test_a_correction_that_carries_an_older_time_is_another_file(settings):
    put(settings, "admissions/2024-01.csv", written_at=5_000.0)
    before = table_arrivals("admissions", settings)[JAN].fingerprint
    put(settings, "admissions/2024-01.csv", written_at=4_000.0)
    assert table_arrivals("admissions", settings)[JAN].fingerprint != before
    put(settings, "admissions/2024-01.csv", written_at=5_000.0)
    assert table_arrivals("admissions", settings)[JAN].fingerprint == before
    put(settings, "admissions/2024-01.csv", content="encounter_id\nE1\nE2\n", written_at=5_000.0)
    assert table_arrivals("admissions", settings)[JAN].fingerprint != before
