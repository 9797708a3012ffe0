"""Candidates in MLflow: runs, nested trials, lineage, versions and aliases; a model that loads without pickle."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.environment import prepare_environment
from health_pipeline.errors import ModelError
from health_pipeline.modeling import load_bundle, model_table, train_months
from health_pipeline.modeling.tracking import CHALLENGER, Tracker, missing_files
from health_pipeline.months import MonthRange
from health_pipeline.warehouse import Slice
from health_pipeline_tests.modeling.conftest import CLOCK, FEATURES, LABELS, settings_in, whole

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:mlflow", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

MONTHS = MonthRange.of("2023-06", "2023-07")


@pytest.fixture
def trained(warehouse, settings):
    prepare_environment()
    settings = settings_in(settings.home, samples=3, max_rounds=30)
    table = model_table("xgboost")
    previous = Slice(table, MonthRange.of("2022-01", "2023-05"))
    rows = [
        train_months(
            "xgboost", warehouse, whole(FEATURES), whole(LABELS), previous, MONTHS, settings, CLOCK, str
        ).to_pylist()
        for _ in range(2)
    ]
    return settings, *rows


def test_what_mlflow_knows_of_two_months_trained_twice(trained):
    settings, first, again = trained
    tracker = Tracker(settings)
    client = tracker.client

    # Runs: one a model, metrics and parameters as in the row, trials nested below the first month.
    run = client.get_run(first[0]["mlflow_run_id"])
    assert run.data.tags["model_id"] == first[0]["model_id"]
    assert run.data.metrics["threshold"] == pytest.approx(first[0]["threshold"])
    assert run.data.metrics["roc_auc_ci_low"] < run.data.metrics["roc_auc"]
    assert run.data.params["training"] == "2022-01..2022-12"
    assert [item.dataset.digest for item in run.inputs.dataset_inputs] == [first[0]["data_snapshot"][:36]] * 3
    assert {tag.value for item in run.inputs.dataset_inputs for tag in item.tags} == {
        "training",
        "validation",
        "holdout",
    }
    trials = client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{first[0]['mlflow_run_id']}'")
    assert len(trials) == 3
    assert [trial.data.tags["best"] for trial in trials].count("true") == 1

    # Registry: the same model keeps its version, another one gets its own.
    assert [row["mlflow_version"] for row in first] == [row["mlflow_version"] for row in again] == ["1", "2"]
    assert tracker.find_versions(first[1]["model_id"]) == ["2"]
    tracker.set_alias(CHALLENGER, first[0]["model_id"])
    assert str(client.get_model_version_by_alias(tracker.name, CHALLENGER).version) == "1"
    with pytest.raises(ModelError, match="no version"):
        tracker.set_alias(CHALLENGER, "xgb-190001-0000000000")

    # Files: the card, and a model that MLflow loads without unpickling anything.
    assert "card.html" in {item.path for item in client.list_artifacts(first[0]["mlflow_run_id"])}
    assert missing_files(tracker, ["1", "2"]) == []
    import mlflow

    local = client.download_artifacts(first[0]["mlflow_run_id"], "model")
    model = mlflow.pyfunc.load_model(local)
    bundle = load_bundle(settings.home / first[0]["artefact_path"])
    import pandas as pd

    frame = pd.DataFrame(
        {
            "age_years": [70.0, 40.0],
            "prior_inpatient_1y": [3.0, 0.0],
            "last_hemoglobin": [9.0, None],
            "emergency": [True, False],
            "discharge_disposition": ["home", "hospice"],
            "payer": ["medicare", "medicaid"],
        }
    )
    import pyarrow as pa

    np.testing.assert_allclose(
        model.predict(frame), bundle.probabilities(pa.Table.from_pandas(frame, preserve_index=False)), atol=1e-6
    )
    assert not list(settings.home.glob("mlartifacts/**/*.pkl"))


def lose_the_folder(settings, row):
    (folder,) = settings.home.glob(f"mlartifacts/{row['mlflow_run_id']}/artifacts/model")
    shutil.rmtree(folder)


def lose_the_run(settings, row):
    """As ``mlflow gc`` does."""
    client = Tracker(settings).client
    client.delete_run(row["mlflow_run_id"])
    client._tracking_client.store._hard_delete_run(row["mlflow_run_id"])


def lose_the_version(settings, row):
    """A deployment then registers the bundle, without a run."""
    tracker = Tracker(settings)
    tracker.client.delete_model_version(tracker.name, row["mlflow_version"])
    folder = settings.home / row["artefact_path"]
    MLflowRegistry.of(settings).register(row["model_id"], folder, row["artefact_hash"])


@pytest.mark.parametrize("lose", [lose_the_folder, lose_the_run, lose_the_version])
def test_a_version_that_lost_its_files_gets_a_successor(warehouse, settings, lose):
    """A backup may hold the registry of a moment later than its files; training the month again has to mend that."""
    prepare_environment()
    table = model_table("logistic_regression")
    settings = settings_in(settings.home, samples=0, replicates=20)

    def train():
        arguments = whole(FEATURES), whole(LABELS), Slice(table, MONTHS), MonthRange(MONTHS.first, MONTHS.first)
        return train_months("logistic_regression", warehouse, *arguments, settings, CLOCK, str).to_pylist()[0]

    first = train()
    lose(settings, first)
    again = train()
    assert again["model_id"] == first["model_id"]
    tracker = Tracker(settings)
    assert tracker.find_versions(first["model_id"])[0] == again["mlflow_version"]
    assert missing_files(tracker, [again["mlflow_version"]]) == []
    assert train()["mlflow_version"] == again["mlflow_version"]


def test_a_store_that_cannot_be_used_is_named(settings):
    broken = settings.model_copy(
        update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": "sqlite:////dev/null/mlflow.db"})}
    )
    with pytest.raises(ModelError, match="MLFLOW__TRACKING_URI"):
        replace(Tracker(broken)).client  # noqa: B018
