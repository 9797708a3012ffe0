"""What must be set before the heavy libraries are imported: no telemetry, no oversubscription."""

from __future__ import annotations

import os
import warnings

_QUIET = {
    # Health data: nothing is reported to anybody.
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Materialisations of a range are stored in batches.
    "DAGSTER_EVENT_BATCH_SIZE": "500",
    # A model that must be unpickled is never loaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def prepare_environment() -> None:
    """Set the variables that are not set yet; call before anything heavy is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # Pinned and tested (pyproject.toml); saying it at every run would teach people to overlook warnings.
    warnings.filterwarnings("ignore", message=r".* is currently in (beta|preview)")
