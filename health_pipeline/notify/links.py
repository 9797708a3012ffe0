"""Links of alerts into the Dagster UI; none where its address (``notify.ui_url``) is not set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from health_pipeline.notify.templates import Links

if TYPE_CHECKING:
    from health_pipeline.settings import Settings


def to_run(settings: Settings, run_id: str) -> Links:
    """The page of a run."""
    return _to(settings, "run", f"runs/{run_id}")


def to_asset(settings: Settings, asset: str, view: str = "overview") -> Links:
    """The page of an asset.

    Args:
        settings: address of the UI.
        asset: ``schema/name``.
        view: its tab, for instance ``checks``.
    """
    return _to(settings, asset, f"assets/{asset}?view={view}")


def _to(settings: Settings, title: str, path: str) -> Links:
    address = settings.notify.ui_url
    return ((title, f"{address.rstrip('/')}/{path}"),) if address else ()
