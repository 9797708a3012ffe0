"""The future cannot be seen: the honest query passes the detector, and every leak of the design's list fails it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from health_pipeline.features import features_query
from health_pipeline.features.leakage import ROW, LeakageError, assert_no_future, find_leaks
from health_pipeline.features.part import Inputs
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query
from health_pipeline_tests.histories import random_hospital
from health_pipeline_tests.silver import Hospital, moment

MONTHS = MonthRange.of("2022-01", "2022-04")
CUT_OFFS = (moment("2022-01-20 03:00"), moment("2022-03-02 15:00"), moment("2022-04-28"))


@pytest.fixture(scope="module")
def hospital() -> Hospital:
    return random_hospital(seed=3, stated=0.5)


def inputs(hospital: Hospital) -> Inputs:
    slices = hospital.slices(MONTHS, before=15, after=2)
    return Inputs(slices["admissions"], slices["patients"], slices["clinical_events"], slices["claims"])


def honest(given: Inputs) -> Query:
    return features_query(given.admissions, given.patients, given.events, given.claims, MONTHS, Settings())


def test_features_do_not_change_when_the_future_is_erased_or_scrambled(hospital: Hospital) -> None:
    assert len(hospital.rows(honest(inputs(hospital)))) > 15
    assert_no_future(hospital.connection, honest, inputs(hospital), CUT_OFFS)


def leaky(expression: str, join: str = "") -> Callable[[Inputs], Query]:
    """The honest query with one more column that is made as a hurried colleague would make it."""

    def build(given: Inputs) -> Query:
        text = join.format(admissions=given.admissions, events=given.events, patients=given.patients)
        return Query(f"SELECT f.*, {expression} AS leak FROM ({honest(given).sql}) AS f {text}")

    return build


LEAKS = {
    "patient target encoding": leaky(
        "t.rate",
        "LEFT JOIN (SELECT patient_key, avg(readmitted_30d::INTEGER) AS rate FROM {admissions} GROUP BY ALL) AS t"
        " USING (patient_key)",
    ),
    "count of the patient's stays in the file": leaky(
        "t.stays",
        "LEFT JOIN (SELECT patient_key, count(*) AS stays FROM {admissions} GROUP BY ALL) AS t USING (patient_key)",
    ),
    "gap to the next stay": leaky(
        "t.gap",
        "LEFT JOIN (SELECT encounter_id, lead(admitted_at) OVER (PARTITION BY patient_key ORDER BY admitted_at)"
        " - discharged_at AS gap FROM {admissions} AS a) AS t USING (encounter_id)",
    ),
    "statistic over the whole extract": leaky(
        "f.length_of_stay_days - t.mean",
        ", (SELECT avg(date_diff('day', admitted_at, discharged_at)) AS mean FROM {admissions} AS a) AS t",
    ),
    "the outcome itself": leaky(
        "t.readmitted_30d",
        "LEFT JOIN (SELECT encounter_id, readmitted_30d FROM {admissions} AS a) AS t USING (encounter_id)",
    ),
    "fact of the stay that was recorded after it": leaky(
        "t.codes",
        "LEFT JOIN (SELECT encounter_id, count(*) AS codes FROM {events} AS e GROUP BY ALL) AS t USING (encounter_id)",
    ),
    "death": leaky(
        "t.died",
        "LEFT JOIN (SELECT patient_key, bool_or(deceased_on IS NOT NULL) AS died FROM {patients} AS p GROUP BY ALL)"
        " AS t USING (patient_key)",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_put_in_on_purpose_is_caught(hospital: Hospital, name: str) -> None:
    leaks = find_leaks(hospital.connection, LEAKS[name], inputs(hospital), CUT_OFFS[1:2])

    assert {leak.column for leak in leaks} == {"leak"}
    with pytest.raises(LeakageError, match="leak"):
        assert_no_future(hospital.connection, LEAKS[name], inputs(hospital), CUT_OFFS[1:2])


def test_rows_chosen_by_the_future_are_caught(hospital: Hospital) -> None:
    def build(given: Inputs) -> Query:
        return Query(
            f"SELECT f.* FROM ({honest(given).sql}) AS f SEMI JOIN"
            f" (SELECT patient_key FROM {given.admissions} AS a GROUP BY ALL HAVING count(*) > 1) USING (patient_key)"
        )

    leaks = find_leaks(hospital.connection, build, inputs(hospital), CUT_OFFS)
    assert {leak.column for leak in leaks} == {ROW}


def test_the_probe_leaves_nothing_behind(hospital: Hospital) -> None:
    schemas = {row["schema_name"] for row in hospital.rows("SELECT schema_name FROM duckdb_schemas()")}
    assert "leak_probe" not in schemas
