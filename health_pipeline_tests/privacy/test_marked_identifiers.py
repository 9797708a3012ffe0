"""No identifier of a patient is in anything that is made of the landed files: tables, checks, errors, logs, lists."""

import gzip
import zipfile

import duckdb
import pytest
from structlog.testing import capture_logs

from health_pipeline.contracts import BRONZE, LANDING_TABLES, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.contracts.checks import CHECKS
from health_pipeline.contracts.quarantine_review import list_rejected, retries
from health_pipeline.errors import LandingError, PipelineError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query, landing_report
from health_pipeline.warehouse import Query, Warehouse
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import GOOD, land, row
from health_pipeline_tests.privacy.scan import marks_in_home

MONTH = MonthRange.of("2023-01")
PERSON, NAME, STREET, POSTCODE = "Zebulon-4711", "Quirinus Ottokar", "Elm Street 1428", "98765-4321"
MARKS = (PERSON, NAME, STREET, POSTCODE, POSTCODE[:5])
SECRET = "the key nobody may see"


@pytest.fixture
def settings(tmp_path):
    return Settings(
        home=tmp_path / "home", start_month="2023-01", end_month="2023-01", privacy={"pseudonym_key": SECRET}
    )


@pytest.fixture
def shown(settings):
    """Texts of everything that a run of marked files shows."""
    for name in LANDING_TABLES:
        marked = {**row(name, patient_id=PERSON), "name": NAME, "address": STREET}
        broken = [
            {**marked, column.name: f"{NAME}"} for column in LANDING_TABLES[name].columns if column.type != "VARCHAR"
        ]
        if name == "patients":
            marked["zip3"] = POSTCODE
        land(settings, name, "2023-01", [marked, marked, *broken], columns=list(marked))
    warehouse = Warehouse.from_settings(settings)
    texts = []
    with capture_logs() as logs:
        for name, table in BRONZE.items():
            texts.append(warehouse.replace(table, MONTH, bronze_query(name, MONTH, settings)))
        bronze = {name: Slice(table, MONTH) for name, table in BRONZE.items()}
        rejected = rejected_query(bronze, settings)
        texts += [rejected, warehouse.replace(REJECTED_ROWS, MONTH, rejected)]
        for name, table in SILVER.items():
            query = silver_query(name, bronze[name], settings)
            texts += [query, warehouse.replace(table, MONTH, query)]
        for check in CHECKS:
            texts += check.evaluate(warehouse, MONTH, settings)
        texts += [
            list_rejected(warehouse, MONTH),
            retries(warehouse, MONTH, settings),
            landing_report(settings),
            settings,
        ]
    return "\n".join(str(text) for text in [*texts, logs])


def test_nothing_shown_or_stored_holds_a_mark(shown, settings):
    assert not any(mark in shown for mark in (*MARKS, SECRET))
    assert marks_in_home(settings.home, (*MARKS, SECRET)) == []
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        assert connection.execute("SELECT count(*), any_value(zip3) FROM silver.patients").fetchone() == (1, "987")


@pytest.mark.parametrize("damage", ["row", "quote", "cell"])
def test_errors_hold_no_mark(damage, settings):
    path = land(settings, "admissions", "2023-01", [row("admissions", patient_id=PERSON)] * 3)
    extra = {"row": f"{PERSON},{NAME}\n", "quote": f'"{PERSON},{NAME}\n', "cell": f'{PERSON},"{NAME}" x\n'}[damage]
    path.write_text(path.read_text() + extra)
    with pytest.raises(LandingError) as caught:
        bronze_query("admissions", MONTH, settings)
    assert not any(mark in str(caught.value) for mark in MARKS)


def test_an_error_inside_the_warehouse_holds_no_mark(settings):
    warehouse = Warehouse.from_settings(settings)
    wrong = f"SELECT * REPLACE (CAST('{PERSON}' AS DATE) AS month) FROM ({bronze_of(settings)})"
    with pytest.raises(PipelineError) as caught:
        warehouse.replace(BRONZE["admissions"], MONTH, Query(wrong))
    assert PERSON not in str(caught.value)


def bronze_of(settings):
    land(settings, "admissions", "2023-01", [GOOD["admissions"]])
    return bronze_query("admissions", MONTH, settings).sql


def test_the_scan_finds_marks_wherever_they_hide(tmp_path):
    home = tmp_path / "home"
    for folder in ("landing", "logs", "outputs"):
        (home / folder).mkdir(parents=True)
    (home / "landing" / "a.csv").write_text(PERSON)
    (home / "logs" / "plain.log").write_text(f"row of {PERSON}")
    (home / "logs" / "packed.gz").write_bytes(gzip.compress(f"row of {PERSON}".encode()))
    (home / "outputs" / "clean.html").write_text("nothing")
    with zipfile.ZipFile(home / "outputs" / "model.zip", "w") as archive:
        archive.writestr("inner", "clean")
        archive.writestr("other", PERSON * 9)
    duckdb.execute(f"COPY (SELECT '{PERSON}' AS person FROM range(9)) TO '{home}/outputs/rows.parquet'")
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        for schema in ("bronze", "gold"):
            connection.execute(f"CREATE SCHEMA {schema}")
            connection.execute(f"CREATE TABLE {schema}.t AS SELECT 'x {PERSON}' AS person, 1 AS number")
    assert marks_in_home(home, MARKS) == [
        "logs/packed.gz",
        "logs/plain.log",
        "outputs/model.zip",
        "outputs/rows.parquet",
        "gold.t.person",
    ]
