"""A linear model scores the same in SQL as through its bundle."""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.modeling.linear_sql import probability_sql
from health_pipeline_tests.serving.bundles import linear_bundle, tree_bundle


def rows(count: int = 2000) -> pa.Table:
    generator = np.random.default_rng(4)
    hidden = generator.random((count, 5)) < 0.2

    def column(values, position, kind):
        return pa.array([None if hidden[row, position] else value for row, value in enumerate(values)], kind)

    ages = generator.normal(60, 30, count)
    ages[:3] = np.nan, np.inf, -np.inf
    payers = generator.choice(["medicare", "medicaid", "private", "it's new", ""], count)
    return pa.table(
        {
            "age": column(ages.tolist(), 0, pa.float64()),
            "length_of_stay": column(generator.normal(5, 30, count).tolist(), 1, pa.float64()),
            "prior_admissions": column(generator.integers(0, 9, count).astype(float).tolist(), 2, pa.float64()),
            "is_emergency": column((generator.random(count) < 0.5).tolist(), 3, pa.bool_()),
            "payer": column(payers.tolist(), 4, pa.string()),
        }
    )


def in_sql(bundle: Bundle, table: pa.Table) -> np.ndarray:
    with duckdb.connect() as connection:
        connection.register("given", table)
        return connection.execute(f"SELECT {probability_sql(bundle)} AS p FROM given").fetchnumpy()["p"]


def test_sql_and_bundle_agree():
    first = linear_bundle()
    (member,) = first.members
    halves = tuple(dataclasses.replace(member, weight=weight) for weight in (0.25, 0.75))
    names = ("it's new", "")
    last = dataclasses.replace(member.encodings[-1], categories=names)
    quoted = dataclasses.replace(
        first,
        members=(dataclasses.replace(member, encodings=(*member.encodings[:-1], last)),),
        features=(*first.features[:-1], dataclasses.replace(first.features[-1], categories=names)),
    )
    table = rows()
    for bundle in (first, dataclasses.replace(first, members=halves), quoted):
        expected = bundle.probabilities(table)
        assert np.abs(in_sql(bundle, table) - expected).max() < 1e-12
        assert expected.std() > 0.03


def test_extreme_logits_do_not_overflow():
    table = rows(50)
    for shift in (-1e6, 1e6):
        bundle = linear_bundle(shift)
        assert np.allclose(in_sql(bundle, table), bundle.probabilities(table), rtol=0, atol=1e-15)


def test_trees_have_no_such_expression():
    with pytest.raises(ModelError, match="is not linear"):
        probability_sql(tree_bundle())
