"""What does not fit into memory lies in a folder of the process, in clear only where the warehouse does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

READER = """
import sys
from pathlib import Path
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

warehouse = Warehouse.from_settings(Settings(home=Path(sys.argv[1]), warehouse={"memory_limit": "80MiB", "threads": 1}))
with warehouse.read("sort what does not fit") as connection:
    for _ in range(3):
        mine, pad = f"'{sys.argv[2]}-' || n", "md5(n::VARCHAR) || md5((n + 1)::VARCHAR)"
        rows = f"SELECT n, {mine} AS text, {pad} AS pad FROM range(1_500_000) AS r(n)"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE big AS {rows}")
        print("spilled", flush=True)
        wrong = f"text <> {mine} OR pad <> {pad}"
        found = connection.execute(f"SELECT count(*), count(*) FILTER ({wrong}) FROM big").fetchone()
        assert found == (1_500_000, 0), found
"""


def reader(home: Path, name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-W", "ignore", "-c", READER, str(home), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_read_at_the_same_time_do_not_share_pages(tmp_path: Path) -> None:
    """In one folder both crashed: DuckDB's temporary files have the same names in every process."""
    with Warehouse.from_settings(Settings(home=tmp_path)).write("make it"):
        pass
    both = [reader(tmp_path, "first"), reader(tmp_path, "second")]
    for each in both:
        _, said = each.communicate(timeout=240)
        assert each.returncode == 0, said


def test_what_a_killed_process_leaves_is_removed_by_the_next_one(tmp_path: Path) -> None:
    killed = reader(tmp_path, "killed")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "spilled\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (left,) = [path for path in (tmp_path / "spill").iterdir() if path.is_dir()]
    assert any(left.iterdir())
    # Another process: this one may be the first to come.
    with reader(tmp_path, "next") as following:
        following.communicate(timeout=240)
    assert following.returncode == 0
    assert not left.exists()
    assert not left.with_suffix(".lock").exists()


@pytest.mark.parametrize(("backend", "shows"), [("duckdb", True), ("encrypted", False)])
def test_an_encrypted_warehouse_spills_nothing_in_clear(tmp_path: Path, backend: str, shows: bool) -> None:
    key = {"encryption_key": "a key for tests only"} if backend == "encrypted" else {}
    chosen = {"backend": backend, "memory_limit": "80MiB", "threads": 1, **key}
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse=chosen))
    with warehouse.read("sort what does not fit") as connection:
        connection.execute(
            "CREATE TEMP TABLE big AS SELECT 'MARKED-' || md5(n::VARCHAR) AS v FROM range(2_000_000) r(n)"
        )
        content = [path.read_bytes() for path in (tmp_path / "spill").rglob("*") if path.is_file()]
    assert sum(map(len, content)) > 1_000_000
    assert any(b"MARKED-" in each for each in content) == shows
    stream = warehouse.stream("SELECT 'MARKED-' || n AS v FROM range(150_000) r(n)", "training")
    assert any((tmp_path / "spill").rglob("*.arrow")) is False
    assert sum(batch.num_rows for batch in stream) == 150_000
