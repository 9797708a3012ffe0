from __future__ import annotations

import pytest

from health_pipeline.modeling.bundle import Bundle
from health_pipeline_tests.serving.bundles import linear_bundle, tree_bundle


@pytest.fixture(scope="session")
def linear() -> Bundle:
    return linear_bundle()


@pytest.fixture(scope="session")
def trees() -> Bundle:
    return tree_bundle()
