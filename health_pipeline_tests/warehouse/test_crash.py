"""A process may die at any moment: every slice is then wholly old or wholly new, and the next run works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def crash(home: Path, backend: dict[str, str], rounds: int, rows: int, seed: int) -> list[dict]:
    settings = {"home": str(home), "warehouse": {**backend, "threads": 1, "lock_timeout_seconds": 60}}
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "health_pipeline_tests.warehouse.crash",
            json.dumps(settings),
            *map(str, (rounds, rows, seed)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def assert_never_torn(states: list[dict], rounds: int) -> None:
    assert len(states) == rounds
    assert [state for state in states if not state["whole"]] == []
    assert [state for state in states if not state["kept"]] == []
    # The kills have to hit replacements, or the test shows nothing.
    assert sum(state["in_flight"] for state in states) > rounds / 2
    assert states[-1]["generation"] > 0


def test_killed_processes_leave_whole_slices(tmp_path: Path) -> None:
    assert_never_torn(crash(tmp_path, {"backend": "duckdb"}, 12, 20_000, 1), 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "rounds"),
    [
        ({"backend": "duckdb"}, 200),
        ({"backend": "encrypted", "encryption_key": "k"}, 60),
        ({"backend": "ducklake"}, 60),
    ],
    ids=["duckdb", "encrypted", "ducklake"],
)
def test_many_killed_processes_leave_whole_slices(tmp_path: Path, backend: dict[str, str], rounds: int) -> None:
    assert_never_torn(crash(tmp_path, backend, rounds, 50_000, 2), rounds)
