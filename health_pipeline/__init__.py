"""A Dagster asset graph that turns monthly hospital extracts into a 30-day readmission model.

The rooms of this package (``contracts``, ``sources``, ``warehouse``, ``cohort``, ``features``,
``modeling``, ``promotion``, ``monitoring``, ``serving``, ``deployment``, ``notify``) know nothing of the
orchestrator; ``defs`` binds them to Dagster. See ``docs/architecture.md``.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("health-pipeline")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0+source"

__all__ = ["__version__"]
