"""A home of its own for every test."""

import pytest

from health_pipeline.settings import Settings
from health_pipeline_tests.contracts.landing_samples import Tables


@pytest.fixture
def settings(tmp_path):
    return Settings(
        home=tmp_path,
        privacy={"pseudonym_key": "a key that only tests use"},
        start_month="2022-10",
        end_month="2023-12",
    )


@pytest.fixture
def tables(settings):
    return Tables(settings)
