"""Every check of landing, silver and quarantine passes on good months and says no once."""

import shutil

import pytest

from health_pipeline.contracts import BRONZE, LANDING_TABLES, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.contracts.checks import CHECKS
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import land, row

MONTHS = MonthRange.of("2023-01", "2023-04")
MONTH = MonthRange.of("2023-04")


def month_of(table, day, rows):
    """``rows`` rows that are right for a month."""
    times = {
        "admissions": lambda n: {
            "encounter_id": f"{day}-{n}",
            "admitted_at": f"{day}-01",
            "discharged_at": f"{day}-02",
        },
        "patients": lambda n: {"patient_id": f"P{n}", "recorded_at": f"{day}-01"},
        "clinical_events": lambda n: {"encounter_id": f"{day}-{n}", "time": f"{day}-01", "recorded_at": f"{day}-01"},
        "claims": lambda n: {
            "claim_id": f"{day}-{n}",
            "encounter_id": f"{day}-{n}",
            "service_from": None,
            "service_to": None,
            "processed_at": f"{day}-03",
        },
    }[table]
    return [row(table, **times(n)) for n in range(rows)]


@pytest.fixture(scope="module")
def good_home(tmp_path_factory):
    """A home with good months, loaded once; every test works on a copy."""
    home = tmp_path_factory.mktemp("good") / "home"
    settings = settings_of(home)
    for month in MONTHS:
        for name in LANDING_TABLES:
            land(settings, name, f"{month:%Y-%m}", month_of(name, f"{month:%Y-%m}", 20))
    load(Warehouse.from_settings(settings), settings)
    return home


@pytest.fixture
def settings(tmp_path):
    return settings_of(tmp_path / "home")


@pytest.fixture
def warehouse(settings, good_home):
    shutil.copytree(good_home, settings.home)
    return Warehouse.from_settings(settings)


def settings_of(home):
    return Settings(home=home, start_month="2023-01", end_month="2023-12")


def load(warehouse, settings, months=MONTHS, names=tuple(LANDING_TABLES)):
    """Bring months of some tables from the landing zone to silver."""
    for name in names:
        warehouse.replace(BRONZE[name], months, bronze_query(name, months, settings))
    bronze = {name: Slice(table, months) for name, table in BRONZE.items()}
    warehouse.replace(REJECTED_ROWS, months, rejected_query(bronze, settings))
    for name in names:
        warehouse.replace(SILVER[name], months, silver_query(name, bronze[name], settings))


def verdicts(warehouse, settings, months=MONTHS, *names):
    return {
        (check.table, check.name, verdict.month): verdict
        for check in CHECKS
        if not names or check.name in names
        for verdict in check.evaluate(warehouse, months, settings)
    }


def failures(warehouse, settings, *names):
    found = verdicts(warehouse, settings, MONTHS, *names)
    return {
        f"{table} {name} {month:%Y-%m}": verdict
        for (table, name, month), verdict in found.items()
        if not verdict.passed
    }


def test_good_months_pass_and_a_range_says_what_single_months_say(warehouse, settings):
    whole = verdicts(warehouse, settings)
    assert len(whole) == len(CHECKS) * len(MONTHS)
    assert [key for key, verdict in whole.items() if not verdict.passed] == []
    assert whole["bronze.admissions", "schema_matches", MONTH.first].summary == "without values: readmitted_30d"
    single = {}
    for month in (MONTHS.first, MONTHS.last):
        single |= verdicts(warehouse, settings, MonthRange(month, month))
    assert single == {key: verdict for key, verdict in whole.items() if key[2] in (MONTHS.first, MONTHS.last)}


def test_checks_of_an_empty_warehouse_say_that_nothing_landed(settings):
    found = failures(Warehouse.from_settings(settings), settings)
    assert {verdict.severity for key, verdict in found.items() if "bronze.admissions source_present" in key} == {
        "ERROR"
    }
    assert {key.split()[0] for key in found} == {"bronze.admissions"}, (
        "what a source never delivers is told, not warned of"
    )
    assert {key.split()[1] for key in found} == {"source_present"}


def test_a_source_without_claims_says_so_and_passes(settings):
    whole = verdicts(Warehouse.from_settings(settings), settings)
    found = whole["bronze.claims", "source_present", MONTHS.first]
    assert found.passed
    assert "delivered no claims so far" in found.summary


def test_names_are_unique_and_only_lost_rows_and_labels_block():
    names = [(check.table, check.name) for check in CHECKS]
    assert len(names) == len(set(names))
    assert {name for check in CHECKS if check.blocking for name in [(check.table, check.name)]} == {
        ("bronze.admissions", "source_present"),
        *((table.silver, "counts_balance") for table in LANDING_TABLES.values()),
    }


def test_a_missing_month_of_a_feature_table_warns(warehouse, settings):
    (settings.home / "landing" / "claims" / "2023-03.csv").unlink()
    load(warehouse, settings, MONTHS, ["claims"])
    verdict = failures(warehouse, settings, "source_present")["bronze.claims source_present 2023-03"]
    assert verdict.severity == "WARN"
    assert "features from it are null" in verdict.summary


@pytest.mark.parametrize("rows", [3, 100])
def test_a_cut_or_doubled_extract_warns(rows, warehouse, settings):
    land(settings, "claims", "2023-04", month_of("claims", "2023-04", rows))
    load(warehouse, settings, MONTH, ["claims"])
    verdict = failures(warehouse, settings, "volume_plausible")["bronze.claims volume_plausible 2023-04"]
    assert verdict.numbers["rows"] == rows
    assert verdict.numbers["usual_rows"] == 20


def test_a_few_rows_more_or_less_are_chance(warehouse, settings):
    """A thin extract would warn month after month."""
    for month in MONTHS:
        land(settings, "claims", f"{month:%Y-%m}", month_of("claims", f"{month:%Y-%m}", 4))
    land(settings, "claims", "2023-04", month_of("claims", "2023-04", 1))
    load(warehouse, settings, MONTHS, ["claims"])
    assert "volume_plausible" not in {name.split()[1] for name in failures(warehouse, settings, "volume_plausible")}


def test_columns_that_come_or_go_are_named(warehouse, settings):
    rows = [{**each, "Ward": "7"} for each in month_of("claims", "2023-04", 20)]
    land(settings, "claims", "2023-04", rows, columns=[name for name in rows[0] if name != "denied"])
    load(warehouse, settings, MONTH, ["claims"])
    verdict = failures(warehouse, settings, "schema_matches")["bronze.claims schema_matches 2023-04"]
    assert verdict.summary == "filled before, now missing or empty: denied; new and not in the contract: Ward"
    assert verdict.numbers["empty_columns"] == 3


def test_unknown_words_are_counted_and_never_shown(warehouse, settings):
    rows = [
        {**each, "payer": "Zebulon Ltd"} if n < 3 else each
        for n, each in enumerate(month_of("admissions", "2023-04", 20))
    ]
    land(settings, "admissions", "2023-04", rows)
    events = [{**each, "code": "LOCAL//7"} for each in month_of("clinical_events", "2023-04", 20)]
    land(settings, "clinical_events", "2023-04", events)
    load(warehouse, settings, MONTH, ["admissions", "clinical_events"])
    found = failures(warehouse, settings, "vocabulary_known")
    assert found["silver.admissions vocabulary_known 2023-04"].summary == "values outside the vocabulary: payer 15.00%"
    assert found["silver.clinical_events vocabulary_known 2023-04"].numbers["unseen_code_system"] == 1.0
    assert "ebulon" not in str(found)


@pytest.mark.parametrize("table", ["patients", "clinical_events"])
def test_a_source_that_does_not_know_the_stays_warns(table, warehouse, settings):
    for month in MONTHS:
        strangers = [{**each, "patient_id": "Q", "encounter_id": "?"} for each in month_of(table, f"{month:%Y-%m}", 2)]
        land(settings, table, f"{month:%Y-%m}", strangers)
    load(warehouse, settings, MONTHS, [table])
    verdict = failures(warehouse, settings, "linked_to_stays")[f"silver.{table} linked_to_stays 2023-04"]
    assert verdict.numbers["linked_share"] == 0
    assert verdict.severity == "WARN"


def test_missing_claims_are_noticed_once_they_are_due(warehouse, settings):
    for month in MONTHS:
        claims = [{**each, "encounter_id": "?"} for each in month_of("claims", f"{month:%Y-%m}", 20)]
        land(settings, "claims", f"{month:%Y-%m}", claims)
    load(warehouse, settings, MONTHS, ["claims"])
    late = [key for key in failures(warehouse, settings, "linked_to_stays") if "linked_to_stays" in key]
    assert late == ["silver.claims linked_to_stays 2023-04"]


def test_much_quarantine_warns(warehouse, settings):
    rows = month_of("claims", "2023-04", 20)
    land(settings, "claims", "2023-04", [{**rows[0], "charged": "-1"}, *rows[1:]])
    load(warehouse, settings, MONTH, ["claims"])
    verdict = failures(warehouse, settings, "quarantine_rate")["quarantine.rejected_rows quarantine_rate 2023-04"]
    assert verdict.summary == "above 2.00%: claims 5.00%"
    assert verdict.numbers["rate_claims"] == 0.05


class TestBalance:
    """Rows that get lost anywhere are noticed."""

    KEY = "silver.claims counts_balance 2023-04"

    @pytest.fixture
    def mixed(self, warehouse, settings):
        good = month_of("claims", "2023-04", 17)
        bad = [{**good[0], "charged": "-1"}, {**good[1], "claim_id": None}]
        land(settings, "claims", "2023-04", [*good, *bad, good[2], {**good[3], "charged": "7"}, good[3]])
        load(warehouse, settings, MONTH, ["claims"])
        return warehouse

    def test_counts_are_exact(self, mixed, settings):
        verdict = verdicts(mixed, settings, MONTHS, "counts_balance")["silver.claims", "counts_balance", MONTH.first]
        assert verdict.passed
        assert verdict.numbers == {"landed": 22, "silver": 17, "quarantined": 2, "deduplicated": 3, "strays": 0}

    def store(self, mixed, table, sql):
        mixed.replace(table, MONTH, mixed.fetch(sql, "spoil the balance"))

    def test_a_row_lost_in_silver(self, mixed, settings):
        self.store(mixed, SILVER["claims"], f"SELECT * FROM {Slice(SILVER['claims'], MONTH)} LIMIT 16")
        verdict = failures(mixed, settings, "counts_balance")[self.KEY]
        assert verdict.severity == "ERROR"
        assert verdict.numbers["silver"] == 16

    def test_a_row_lost_in_quarantine(self, mixed, settings):
        self.store(mixed, REJECTED_ROWS, f"SELECT * FROM {Slice(REJECTED_ROWS, MONTH)} ORDER BY source_row LIMIT 1")
        assert failures(mixed, settings, "counts_balance")[self.KEY].numbers["quarantined"] == 1

    def test_a_row_in_silver_and_quarantine(self, mixed, settings):
        doubled = f"""SELECT * FROM {Slice(REJECTED_ROWS, MONTH)} UNION ALL BY NAME
        SELECT month, 'claims' AS table_name, source_file, source_row, row_hash, 'x' AS rule, 'x' AS reason
        FROM {Slice(BRONZE["claims"], MONTH)} WHERE source_row = 1"""
        self.store(mixed, REJECTED_ROWS, doubled)
        assert failures(mixed, settings, "counts_balance")[self.KEY].numbers["quarantined"] == 3

    def test_a_new_file_that_silver_has_not_seen(self, mixed, settings):
        land(settings, "claims", "2023-04", month_of("claims", "2023-04", 22))
        mixed.replace(BRONZE["claims"], MONTH, bronze_query("claims", MONTH, settings))
        assert self.KEY in failures(mixed, settings, "counts_balance")
