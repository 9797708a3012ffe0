"""Settings that an API in a container gets as variables: it has no settings file of the hospital."""

from __future__ import annotations

from health_pipeline.settings import ServingSettings

_LIMITS = ("max_body_bytes", "max_records", "max_explained", "timeout_seconds", "log_flush_seconds")
"""Address, port and token are the container's own."""


def container_settings(serving: ServingSettings) -> dict[str, str]:
    """Value of each variable that holds a limit of the API."""
    return {f"HEALTH_PIPELINE_SERVING__{name.upper()}": str(getattr(serving, name)) for name in _LIMITS}
