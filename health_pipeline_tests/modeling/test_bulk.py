"""Streaming scores: every row once, the same numbers as all at once, wholly or not at all."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from health_pipeline.modeling import bulk
from health_pipeline.modeling.bulk import score_query
from health_pipeline_tests.modeling.test_linear_sql import rows
from health_pipeline_tests.serving.bundles import tree_bundle

QUERY = "SELECT * FROM given ORDER BY id"


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.register("arrow", rows())
        opened.execute("CREATE TABLE given AS SELECT row_number() OVER () AS id, * FROM arrow")
        opened.execute("CREATE TABLE scored (id BIGINT, probability DOUBLE)")
        yield opened


def test_every_row_once_and_the_same_numbers(connection, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_ROWS", 300)
    bundle = tree_bundle()
    assert score_query(connection, QUERY, bundle, "scored", key="id") == 2000
    found = connection.execute("SELECT * FROM scored ORDER BY id").fetchnumpy()
    expected = bundle.probabilities(connection.execute(QUERY).to_arrow_table())
    assert found["id"].tolist() == list(range(1, 2001))
    assert np.array_equal(found["probability"], expected)


def test_a_failure_leaves_nothing(connection, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_ROWS", 300)

    class Failing:
        calls = 0

        def probabilities(self, table):
            self.calls += 1
            if self.calls == 2:
                raise MemoryError
            return tree_bundle().probabilities(table)

    with pytest.raises(MemoryError):
        score_query(connection, QUERY, Failing(), "scored", key="id")
    assert connection.execute("SELECT count(*) FROM scored").fetchone() == (0,)
