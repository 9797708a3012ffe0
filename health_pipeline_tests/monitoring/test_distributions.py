"""Rows are counted in the bins that their values belong to."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health_pipeline.monitoring.distributions import Measured, reference_bins, tallies

MONTH = dt.date(2024, 1, 1)
COLUMNS = [Measured("one", "numeric"), Measured("two", "numeric")]


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        yield opened


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=300), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_row_on_an_edge_belongs_below_it(connection, values, seed):
    """Quantile edges are values of the reference: each is met exactly, with all its digits."""
    random = np.random.default_rng(seed)
    columns = {"one": np.array(values), "two": random.normal(size=len(values)) / 3}
    connection.register("reference", pa.table({"month": pa.array([MONTH] * len(values)), **columns}))
    bins = reference_bins(connection, "reference", COLUMNS)
    counted = tallies(connection, "reference", bins)[MONTH]
    for name, given_values in columns.items():
        edges = np.array(bins[name].edges)
        expected = np.bincount(np.searchsorted(edges, given_values, side="left"), minlength=edges.size + 1)
        np.testing.assert_array_equal(counted[name].bins, expected)
