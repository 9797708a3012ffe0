"""Where the tables are stored: what has to be attached under the name ``warehouse``, and whether a file lock guards it.

Every connection is an in-memory DuckDB to which the storage is attached, so that all backends look the same:
``warehouse`` is the current catalog, tables are ``schema.name``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from health_pipeline.errors import SettingsError
from health_pipeline.warehouse.extensions import load_extension, quote, use_s3
from health_pipeline.warehouse.scratch import own_folder

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

CATALOG = "warehouse"
_ON_SERVER = "ducklake:postgres:"


@dataclass(frozen=True)
class Backend:
    """How to open a warehouse.

    Attributes:
        target: what ATTACH gets; identifies the warehouse within the process.
        file: local DuckDB file (tables or DuckLake catalog) that only one process may open for writing; ``None``
            where a database server arbitrates.
        options: options of ATTACH; may hold a key, so they are never shown.
        extensions: DuckDB extensions to load first.
        config: DuckDB settings.
        s3: whether ``s3://`` paths are used.
    """

    target: str
    file: Path | None
    options: tuple[str, ...]
    extensions: tuple[str, ...]
    config: dict[str, Any]
    s3: bool = False

    def __repr__(self) -> str:
        return f"Backend({self.file or 'database server'})"

    @property
    def spill(self) -> Path:
        """This process's folder for what does not fit into memory."""
        return own_folder(Path(self.config["temp_directory"]))

    @property
    def is_encrypted(self) -> bool:
        """Whether no row may lie on a disk in clear."""
        return self.config.get("temp_file_encryption") == "true"

    @property
    def keeps_snapshots(self) -> bool:
        """Whether replaced rows stay readable, and on disk, until somebody expires them."""
        return self.target.startswith("ducklake:")

    @property
    def server(self) -> str | None:
        """Connection string of the PostgreSQL server that holds a DuckLake's catalog; never shown."""
        return self.target.removeprefix(_ON_SERVER) if self.target.startswith(_ON_SERVER) else None

    @property
    def is_new(self) -> bool:
        """Whether the file still has to be created."""
        return self.file is not None and not self.file.exists()

    def open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A fresh DuckDB instance with the storage attached.

        Raises:
            duckdb.Error: the storage cannot be opened, for instance because a foreign process holds it.
            WarehouseError: an extension is not installed.
        """
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(":memory:", config={**self.config, "temp_directory": str(self.spill)})
        try:
            for name in self.extensions:
                load_extension(connection, name)
            if self.s3:
                use_s3(connection)
            options = (*self.options, "READ_ONLY") if read_only else self.options
            clause = f" ({', '.join(options)})" if options else ""
            connection.execute(f"ATTACH {quote(self.target)} AS {CATALOG}{clause}")
            connection.execute(f"USE {CATALOG}")
        except BaseException:
            connection.close()
            raise
        return connection


def backend_of(settings: Settings) -> Backend:
    """The backend that the settings name.

    Raises:
        SettingsError: a setting that the backend needs is missing.
    """
    chosen = settings.warehouse
    home = settings.home.resolve()
    config: dict[str, Any] = {
        "memory_limit": chosen.memory_limit,
        "temp_directory": str(home / "spill"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    if chosen.threads:
        config["threads"] = chosen.threads
    reads_s3 = settings.landing_uri.startswith("s3://")
    if chosen.backend == "ducklake":
        return _ducklake(settings, config, reads_s3)
    file = settings.warehouse_path.resolve()
    if chosen.backend == "duckdb":
        return Backend(str(file), file, (), (), config, reads_s3)
    if chosen.encryption_key is None or not chosen.encryption_key.get_secret_value():
        raise SettingsError(
            "the encrypted warehouse has no key",
            where="HEALTH_PIPELINE_WAREHOUSE__ENCRYPTION_KEY",
            remedy="set it in the environment; without the same key the file cannot be read again",
        )
    key = f"ENCRYPTION_KEY {quote(chosen.encryption_key.get_secret_value())}"
    config["temp_file_encryption"] = "true"
    return Backend(str(file), file, (key,), ("httpfs",), config, reads_s3)


def _ducklake(settings: Settings, config: dict[str, Any], reads_s3: bool) -> Backend:
    home = settings.home.resolve()
    catalog = settings.warehouse.catalog or str(home / "catalog.ducklake")
    data = settings.warehouse.data_path or str(home / "lake")
    options: tuple[str, ...] = (f"DATA_PATH {quote(data)}",)
    s3 = reads_s3 or data.startswith("s3://")
    if catalog.startswith(("postgres:", "postgresql:")):
        address = catalog if "://" in catalog else catalog.partition(":")[2]
        target = f"{_ON_SERVER}{address}"
        return Backend(target, None, options, ("ducklake", "postgres_scanner"), config, s3)
    if not (settings.warehouse.catalog or settings.warehouse.data_path):
        # Both lie in the home and move with it; DuckLake would insist on the path under which it was created.
        options = (*options, "OVERRIDE_DATA_PATH true")
    file = Path(catalog).resolve()
    return Backend(f"ducklake:{file}", file, options, ("ducklake",), config, s3)
