"""Rows are counted in the bins that their values belong to."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health_pipeline.monitoring.comparison import Reference, compare
from health_pipeline.monitoring.distributions import Measured, reference_bins, tallies
from health_pipeline.settings import MonitoringSettings

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


def zeros(share):
    """Nought, and ones beyond the share of it."""
    return lambda random, rows: (random.random(rows) > share).astype(float)


def constant(value):
    return lambda _random, rows: np.full(rows, value)


def three(*shares):
    return lambda random, rows: random.choice([0.0, 5.0, 9.0], rows, p=shares)


def status_of(connection, before, now):
    """Status of each number of a feature whose months are drawn one way before and another way now."""
    random = np.random.default_rng(5)
    months = [dt.date(2023, month, 1) for month in range(1, 13)]
    for name, times, draw in (("reference", months, before), ("current", [MONTH], now)):
        rows = 800 * len(times)
        column = {"month": pa.array(np.repeat(np.array(times), 800)), "one": draw(random, rows)}
        connection.register(name, pa.table(column))
    bins = reference_bins(connection, "reference", COLUMNS[:1])
    reference = Reference("training_window", list(tallies(connection, "reference", bins).values()))
    current = tallies(connection, "current", bins)[MONTH]
    rows = compare("feature", current, reference, bins, MonitoringSettings())
    return {row["metric"]: row["status"] for row in rows}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (zeros(0.93), zeros(0.5)),
        (constant(0.0), constant(7.0)),
        (constant(1.0), constant(0.3)),
        (three(0.08, 0.85, 0.07), three(0.45, 0.10, 0.45)),
        (three(0.15, 0.80, 0.05), three(0.15, 0.40, 0.45)),
        (three(0.0, 0.90, 0.10), lambda random, rows: three(0.0, 0.90, 0.10)(random, rows) * 0.9),
    ],
    ids=["seldom more than nought", "always nought", "always one", "to both sides", "to one side", "in another unit"],
)
def test_a_feature_that_mostly_has_one_value_alarms_when_it_moves(connection, before, now):
    assert status_of(connection, before, now)["psi"] == "alarm"


@pytest.mark.parametrize("same", [zeros(0.995), zeros(0.93), constant(0.0), three(0.08, 0.85, 0.07)])
def test_a_feature_that_mostly_has_one_value_is_fine_as_it_was(connection, same):
    assert set(status_of(connection, same, same).values()) == {"ok"}
