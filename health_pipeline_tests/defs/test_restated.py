"""Corrected, late and withdrawn files on a real home: what the check says, what Dagster calls stale, what ends it."""

import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.restated import CHECK, records
from health_pipeline.months import MonthRange, parse_month
from health_pipeline_tests.integration.home import land, run, small_settings

MONTHS = MonthRange.of("2022-01", "2022-04")
GOLD = ("gold.features", "gold.cohort_attrition", "gold.labels")
EXTRACTS = "group:bronze,group:silver,gold/features,gold/cohort_attrition"
FEBRUARY = MonthRange.of("2022-02")


def tiny(home):
    return small_settings(home, MONTHS, simulator={"admissions_per_month": 60, "dirt_rate": 0})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A home in which every month was run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        made = tiny(tmp_path_factory.mktemp("restated") / "home")
        land(made)
        run(made, select=f"{EXTRACTS},gold/labels")
    return made


@pytest.fixture
def settings(finished, tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    shutil.copytree(finished.home, tmp_path / "home")
    return tiny(tmp_path / "home")


def correct(settings, table, month, change):
    """Deliver a landed file again with other values."""
    path = Path(settings.landing_uri, table, f"{month}.parquet")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * REPLACE ({change}) FROM '{path}'")
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")


def review(settings):
    with open_instance(settings) as instance:
        return records(build_definitions(settings), instance, settings).review()


def behind(settings):
    return {table: [f"{month:%m}" for month in months] for table, months in review(settings).behind.items()}


def stale(settings):
    """Months that the UI shows as stale, of the tables that were made."""
    defs = build_definitions(settings)
    with open_instance(settings) as instance:
        resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
        found = {}
        for table in GOLD:
            key = dg.AssetKey(table.split("."))
            made = sorted(instance.get_materialized_partitions(key))
            months = [month[5:7] for month in made if resolver.get_status(key, month) is StaleStatus.STALE]
            if months:
                found[table] = months
        return found


def warned(settings):
    """Months with a warning, by table, as the UI shows them."""
    found = {}
    with open_instance(settings) as instance:
        for table in ("admissions", "patients", "clinical_events", "claims"):
            key = dg.AssetCheckKey(dg.AssetKey(["silver", table]), CHECK)
            latest = {}
            for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=100):
                latest.setdefault(record.partition, record.evaluation)
            found |= {f"{table} {month[:7]}": e.description for month, e in latest.items() if not e.passed}
    return found


def test_a_corrected_claims_file_is_named_until_later_features_are_made_again(settings):
    assert behind(settings) == stale(settings) == warned(settings) == {}
    correct(settings, "claims", "2022-02", "'7' AS payer_paid")
    assert review(settings).waiting == (parse_month("2022-02"),)
    run(settings, FEBRUARY, EXTRACTS)
    assert review(settings).waiting == ()
    assert behind(settings) == stale(settings) == {"gold.features": ["03", "04"]}
    (said,) = warned(settings).values()
    assert list(warned(settings)) == ["claims 2022-02"]
    assert "corrected after it had been used" in said
    # features of February itself came after the check of its silver, in the same run
    assert "gold.features of 2022-02..2022-04" in said

    (rerun,) = review(settings).table_reruns
    assert (rerun.select, str(rerun.months)) == ("gold/features", "2022-03..2022-04")
    run(settings, rerun.months, rerun.select)
    assert behind(settings) == stale(settings) == {}
    assert list(warned(settings)) == ["claims 2022-02"], "nobody has looked again"
    with open_instance(settings) as instance:
        kept = records(build_definitions(settings), instance, settings)
        assert kept.lift() == 1
        assert kept.lift() == 0
    assert warned(settings) == {}


@pytest.mark.slow
def test_late_and_withdrawn_files(settings):
    claims = Path(settings.landing_uri, "claims", "2022-02.parquet")
    content = claims.read_bytes()
    claims.unlink()
    run(settings, FEBRUARY, EXTRACTS)
    assert [(each.table, each.change) for each in review(settings).restated] == [("silver.claims", "withdrawn")]
    run(settings, MonthRange.of("2022-03", "2022-04"), "gold/features")
    assert review(settings).restated == ()
    claims.write_bytes(content)
    run(settings, FEBRUARY, EXTRACTS)
    assert [(each.table, each.change) for each in review(settings).restated] == [("silver.claims", "late")]
    assert "late after it had been used" in warned(settings)["claims 2022-02"]


def test_corrected_admissions_reach_labels_on_both_sides(settings):
    correct(settings, "admissions", "2022-02", "'against_advice' AS discharge_disposition")
    run(settings, FEBRUARY, EXTRACTS)
    expected = {
        "gold.features": ["03", "04"],
        "gold.cohort_attrition": ["03", "04"],
        "gold.labels": ["01", "02", "03"],
    }
    assert behind(settings) == stale(settings) == expected


def test_a_file_that_was_only_delivered_again_changes_nothing(settings):
    correct(settings, "claims", "2022-02", "claim_id AS claim_id")
    run(settings, FEBRUARY, EXTRACTS)
    assert behind(settings) == stale(settings) == warned(settings) == {}
