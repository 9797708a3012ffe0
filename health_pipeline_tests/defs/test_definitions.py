"""The graph's public names, pinned: who renames one of them breaks people's jobs, SQL and dashboards."""

import dagster as dg
import pytest

from health_pipeline.defs.build import build_definitions
from health_pipeline.settings import load_settings

ASSETS = {
    "bronze": {"admissions", "patients", "clinical_events", "claims"},
    "silver": {"admissions", "patients", "clinical_events", "claims"},
    "quarantine": {"rejected_rows"},
    "gold": {"features", "labels", "cohort_attrition", "predictions"},
    "models": {"logistic_regression", "xgboost", "champion"},
    "monitoring": {"drift", "performance", "visuals"},
    "deployment": {
        "registered_model",
        "api_image",
        "api_tests",
        "published_image",
        "rollout",
        "verification",
        "health",
        "promotion",
        "skip_report",
        "history",
    },
}


@pytest.fixture(scope="module")
def defs(tmp_path_factory):
    return build_definitions(load_settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def graph(defs):
    return defs.resolve_asset_graph()


def test_assets(graph):
    found = {}
    for key in graph.materializable_asset_keys:
        found.setdefault(key.path[0], set()).add(key.path[1])
    assert found == ASSETS


def test_every_asset_is_monthly_and_runs_a_range_at_once(graph):
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert isinstance(node.partitions_def, dg.TimeWindowPartitionsDefinition), key
        assert all(name.endswith("-01") for name in node.partitions_def.get_partition_keys()), key
        if key.path[0] != "deployment":
            assert node.backfill_policy == dg.BackfillPolicy.single_run(), key


def test_months_of_extracts_labels_and_models(graph):
    def span(*path):
        keys = graph.get(dg.AssetKey(path)).partitions_def.get_partition_keys()
        return keys[0], keys[-1]

    assert span("gold", "features") == ("2022-01-01", "2024-12-01")
    assert span("gold", "labels") == ("2022-01-01", "2024-11-01"), "the last month is not matured"
    assert span("models", "champion") == ("2023-02-01", "2024-12-01"), "after the warm-up"


def test_what_month_m_reads(graph):
    """Labels of M need M+1; a model of M sees labels up to M-2; a champion the one before it."""

    def parents(child, parent, month):
        child_node, parent_node = graph.get(dg.AssetKey(child)), graph.get(dg.AssetKey(parent))
        mapping = graph.get_partition_mapping(child_node.key, parent_node.key)
        subset = child_node.partitions_def.subset_with_partition_keys([month])
        result = mapping.get_upstream_mapped_partitions_result_for_partitions(
            subset, child_node.partitions_def, parent_node.partitions_def
        )
        return sorted(result.partitions_subset.get_partition_keys())

    assert parents(["gold", "labels"], ["silver", "admissions"], "2022-03-01")[-1] == "2022-04-01"
    assert parents(["gold", "features"], ["silver", "claims"], "2022-03-01")[-1] == "2022-03-01"
    for table in ("admissions", "clinical_events", "claims"):  # nothing rests on what landed thirteen months before
        assert parents(["gold", "features"], ["silver", table], "2023-03-01")[0] == "2022-03-01"
    assert parents(["models", "xgboost"], ["gold", "labels"], "2023-06-01")[-1] == "2023-04-01"
    assert parents(["models", "champion"], ["gold", "labels"], "2023-06-01") == [
        "2023-02-01",
        "2023-03-01",
        "2023-04-01",
    ]
    assert parents(["models", "champion"], ["models", "champion"], "2023-06-01") == ["2023-05-01"]
    for read in (["gold", "predictions"], ["gold", "labels"]):  # the concept of M is held against twelve months before
        assert parents(["monitoring", "performance"], read, "2024-06-01")[0] == "2023-06-01"
    assert parents(["monitoring", "performance"], ["models", "champion"], "2024-12-01")[0] == "2023-02-01"
    assert parents(["monitoring", "visuals"], ["monitoring", "drift"], "2024-12-01")[0] == "2023-02-01"


def test_jobs_sensors_and_schedule(defs):
    assert {sensor.name for sensor in defs.sensors} == {
        "new_landing_files",
        "restated_months",
        "drift_retrain",
        "failed_check_alerts",
        "failed_run_alerts",
        "decision_alerts",
        "champion_deployment",
    }
    assert {schedule.name for schedule in defs.schedules} == {"monthly_improvement"}
    named = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert named == {"deploy", "report_skip", "mirror_history", "rollback", "recover_deployment"}


def test_every_gate_is_scoped_to_its_month(graph):
    for key in graph.asset_check_keys:
        node = graph.get(key)
        assert node.partitions_def is not None, key


def test_every_asset_says_what_it_is(graph):
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
