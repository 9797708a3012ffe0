"""Serving: the prediction API."""

from health_pipeline.serving.release import Release, ReleaseFacts, pack_release, read_release
from health_pipeline.serving.traffic import Route, Traffic, read_traffic, write_traffic

__all__ = [
    "Release",
    "ReleaseFacts",
    "Route",
    "Traffic",
    "pack_release",
    "read_release",
    "read_traffic",
    "write_traffic",
]
