"""What a run of the whole graph leaves behind: filled tables, one record a month, nothing of a patient, no future."""

import shutil

import dagster as dg
import duckdb
import pytest

from health_pipeline.defs.build import tables
from health_pipeline.defs.instance import open_instance
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.integration.home import MONTHS, differing_rows, land, run, small_settings

pytestmark = pytest.mark.xdist_group("graph")

DERIVED = (
    "gold.features",
    "gold.labels",
    "gold.cohort_attrition",
    "models.champion",
    "gold.predictions",
    "monitoring.drift",
    "monitoring.performance",
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        made = small_settings(tmp_path_factory.mktemp("graph") / "home")
        land(made)
        run(made)
        yield made


@pytest.fixture(autouse=True)
def _own_instance(monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def rows(settings, sql):
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_every_table_holds_every_month_it_should(settings):
    for table in tables(settings):
        if table.schema == "deployment":
            continue
        first = settings.first_model_month if table.schema in {"models", "monitoring"} else MONTHS.first
        first = settings.first_model_month if table.qualified == "gold.predictions" else first
        last = shift(MONTHS.last, -1) if table.qualified == "gold.labels" else MONTHS.last
        found = {month for (month,) in rows(settings, f"SELECT DISTINCT month FROM {table.qualified}")}
        assert found == set(MonthRange(first, last)), table.qualified


def test_there_is_a_champion_and_everything_is_scored_with_it(settings):
    champions = rows(settings, "SELECT month, decision, model_id FROM models.champion ORDER BY month")
    assert champions[0][1] == "INITIAL"
    assert all(model_id for _, _, model_id in champions)
    unscored = rows(
        settings,
        "SELECT count(*) FROM gold.features f LEFT JOIN gold.predictions p ON p.month = f.month AND "
        "p.encounter_id = f.encounter_id AND p.model_role = 'champion' "
        f"WHERE f.month >= DATE '{settings.first_model_month}' AND p.probability IS NULL",
    )
    assert unscored == [(0,)]


def test_ui_shows_each_month_with_rows_and_content_hash(settings):
    with open_instance(settings) as instance:
        key = dg.AssetKey(["gold", "features"])
        records = instance.fetch_materializations(key, limit=100).records
        assert {record.partition_key for record in records} == set(MONTHS.keys())
        counted = dict(rows(settings, "SELECT strftime(month, '%Y-%m-01'), count(*) FROM gold.features GROUP BY 1"))
        for record in records:
            metadata = record.asset_materialization.metadata
            assert metadata["dagster/partition_row_count"].value == counted[record.partition_key]
            assert metadata["content_hash"].value == record.asset_materialization.tags["dagster/data_version"]


def test_running_again_changes_nothing(settings):
    warehouse = Warehouse.from_settings(settings)
    declared = [table for table in tables(settings) if table.schema in {"silver", "gold", "monitoring", "quarantine"}]
    before = {table.qualified: warehouse.reports(table, MONTHS) for table in declared}
    run(settings)
    assert {table.qualified: warehouse.reports(table, MONTHS) for table in declared} == before


def test_no_patient_id_leaves_landing_and_bronze(settings):
    """Every file of the home but the extracts and the warehouse, and every warehouse table behind bronze."""
    ids = [row[0] for row in rows(settings, "SELECT DISTINCT patient_id FROM bronze.admissions LIMIT 400")]
    assert len(ids) == 400
    needles = [text.encode() for text in ids]
    looked_at = 0
    for file in settings.home.rglob("*"):
        inside = file.relative_to(settings.home).parts[0]
        if not file.is_file() or inside == "landing" or inside.startswith("warehouse.duckdb"):
            continue
        content = file.read_bytes()
        looked_at += 1
        assert not any(needle in content for needle in needles), file
    assert looked_at > 20
    listed = ", ".join(f"'{text}'" for text in ids)
    for table in tables(settings):
        if table.schema in {"bronze", "deployment"}:
            continue
        for column in table.columns:
            if column.type in {"VARCHAR", "JSON"}:
                query = f'SELECT count(*) FROM {table.qualified} WHERE "{column.name}" IN ({listed})'
                assert rows(settings, query) == [(0,)], (table.qualified, column.name)


def test_the_future_cannot_be_seen(settings, tmp_path):
    """Another hospital from October on: nothing that existed before may come out differently."""
    changed = small_settings(tmp_path / "home")
    shutil.copytree(settings.home / "landing", changed.home / "landing")
    cut = parse_month("2022-10")
    scramble(changed, cut)
    run(changed)
    for table in DERIVED:
        last = shift(cut, -2) if table in {"gold.labels", "monitoring.performance"} else shift(cut, -1)
        count, lost, new = differing_rows(settings, changed, table, f"month <= DATE '{last}'")
        assert count > 0
        assert (lost, new) == (0, 0), table
    assert differing_rows(settings, changed, "gold.predictions", f"month = DATE '{cut}'")[1] > 0, "the change was real"


def scramble(settings, cut):
    """Replace every landed file from ``cut`` on by the same month with other patients and other facts."""
    for file in sorted((settings.home / "landing").rglob("*.parquet")):
        if parse_month(file.stem) < cut:
            continue
        with duckdb.connect() as connection:
            names = [row[0] for row in connection.execute(f"DESCRIBE FROM '{file}'").fetchall()]
            kept = [f"reverse({name}) AS {name}" if name == "patient_id" else name for name in names]
            sample = "USING SAMPLE 60% (bernoulli, 5)"
            connection.execute(f"CREATE TABLE t AS SELECT {', '.join(kept)} FROM '{file}' {sample}")
            connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
