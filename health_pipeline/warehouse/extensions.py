"""DuckDB extensions from their PyPI packages; nothing is ever downloaded at run time."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import duckdb

from health_pipeline.errors import WarehouseError


def extension_file(name: str) -> Path:
    """The extension's file in ``duckdb-extension-<name>``.

    Raises:
        WarehouseError: the package is missing or built for another DuckDB; says what to install.
    """
    package = f"duckdb-extension-{name.replace('_', '-')}"
    remedy = f"pip install '{package}=={duckdb.__version__}' (or the extra: pip install 'health-pipeline[ducklake]')"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise WarehouseError(f"DuckDB extension '{name}' is not installed", where=package, remedy=remedy)
    folder = Path(next(iter(spec.submodule_search_locations))) / "extensions"
    file = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.exists():
        built_for = ", ".join(sorted(path.name for path in folder.glob("v*"))) or "no version"
        raise WarehouseError(
            f"DuckDB extension '{name}' is built for {built_for}, DuckDB is v{duckdb.__version__}",
            where=package,
            remedy=remedy,
        )
    return file


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension into the instance of ``connection``."""
    connection.execute(f"LOAD '{extension_file(name)}'")


def use_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """Let DuckDB read and write ``s3://`` with the usual AWS variables of the environment.

    ``AWS_ENDPOINT_URL`` (or ``AWS_ENDPOINT_URL_S3``) points to a store other than AWS.
    """
    load_extension(connection, "httpfs")
    options = {
        "KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID"),
        "SECRET": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "SESSION_TOKEN": os.environ.get("AWS_SESSION_TOKEN"),
        "REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, address = endpoint.rpartition("://")
        options |= {"ENDPOINT": address.rstrip("/"), "URL_STYLE": "path"}
        options["USE_SSL"] = "false" if scheme == "http" else "true"
    given = ", ".join(f"{name} {quote(value)}" for name, value in options.items() if value)
    connection.execute(f"CREATE OR REPLACE SECRET landing_s3 (TYPE s3{', ' if given else ''}{given})")


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
