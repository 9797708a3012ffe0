"""Adapters: one folder per foreign format, holding nothing but a description and SELECTs.

A folder with an ``adapter.toml`` is an adapter; its name is the folder's. No code knows any of them by name, so adding
one needs no other change. ``docs/adapters.md`` tells how to write one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from health_pipeline.sources.adapters.description import Adapter, read_adapter

__all__ = ["ADAPTERS", "Adapter", "discover"]


def discover(folder: Path) -> dict[str, Adapter]:
    """All adapters of a folder, by name."""
    return {path.parent.name: read_adapter(path.parent) for path in sorted(folder.glob("*/adapter.toml"))}


ADAPTERS: Mapping[str, Adapter] = MappingProxyType(discover(Path(__file__).parent))
