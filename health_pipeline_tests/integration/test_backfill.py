"""The command line and a backfill from the UI give the same tables, row for row."""

import os
import subprocess
import sys

import duckdb
import pytest

from health_pipeline_tests.integration.dagster_services import services

MONTHS = ("2022-01", "2023-12")
ENVIRONMENT = {
    "HEALTH_PIPELINE_START_MONTH": MONTHS[0],
    "HEALTH_PIPELINE_END_MONTH": MONTHS[1],
    "HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY": "the same key in both homes",
    # What is compared is asked for by hand: nothing else may start.
    "HEALTH_PIPELINE_AUTOMATION": "false",
}
COMPARED = (
    "silver.admissions",
    "silver.patients",
    "silver.clinical_events",
    "silver.claims",
    "quarantine.rejected_rows",
    "gold.features",
    "gold.labels",
    "gold.cohort_attrition",
    "models.champion",
    "gold.predictions",
    "monitoring.drift",
    "monitoring.performance",
)


def command(home, *arguments):
    result = subprocess.run(
        [sys.executable, "-m", "health_pipeline", *arguments],
        env={**os.environ, **ENVIRONMENT, "HEALTH_PIPELINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def partitions(home):
    """Months of each asset as the definitions say."""
    code = (
        "import json\nfrom health_pipeline.definitions import defs\ngraph = defs.resolve_asset_graph()\n"
        "print(json.dumps([[list(key.path), graph.get(key).partitions_def.get_partition_keys()]"
        " for key in graph.materializable_asset_keys if graph.get(key).group_name != 'deployment']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **ENVIRONMENT, "HEALTH_PIPELINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    import json

    return {tuple(path): keys for path, keys in json.loads(result.stdout.splitlines()[-1])}


@pytest.mark.slow
def test_a_backfill_from_the_ui_equals_a_run_from_the_command_line(tmp_path):
    first, second = tmp_path / "command", tmp_path / "ui"
    for home in (first, second):
        command(home, "simulate")
    command(first, "run")
    with services(second, ENVIRONMENT) as running:
        assert running.backfill(partitions(second), seconds=1500) == "COMPLETED_SUCCESS"
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{first / 'warehouse.duckdb'}' AS one (READ_ONLY)")
        connection.execute(f"ATTACH '{second / 'warehouse.duckdb'}' AS two (READ_ONLY)")
        for table in COMPARED:
            count = connection.execute(f"SELECT count(*) FROM one.{table}").fetchone()[0]
            differing = connection.execute(
                f"SELECT count(*) FROM (FROM one.{table} EXCEPT ALL FROM two.{table}) "
                f"UNION ALL SELECT count(*) FROM (FROM two.{table} EXCEPT ALL FROM one.{table})"
            ).fetchall()
            assert count > 0, table
            assert differing == [(0,), (0,)], table
