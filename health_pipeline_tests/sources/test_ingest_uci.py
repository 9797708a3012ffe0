from __future__ import annotations

import itertools
from pathlib import Path

import duckdb
import pytest

from health_pipeline.errors import SourceError
from health_pipeline.settings import load_settings
from health_pipeline.sources.adapters import ADAPTERS
from health_pipeline.sources.ingest import ingest


def test_unknown_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unknown adapter 'nope'"):
        ingest("nope", tmp_path, load_settings(home=tmp_path))


def test_not_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(SourceError, match="neither a zip archive nor a folder"):
        ingest("uci", tmp_path / "broken.zip", load_settings(home=tmp_path / "home"))


def test_nodes_are_a_small_increasing_table() -> None:
    path = ADAPTERS["uci"].bundled["nodes"]
    rows = duckdb.sql(f"SELECT id, ts FROM read_csv('{path}') ORDER BY id").fetchall()
    assert len(rows) == 81
    assert all(a[1] < b[1] for a, b in itertools.pairwise(rows))
