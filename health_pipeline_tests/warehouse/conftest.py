"""A warehouse on every backend; PostgreSQL and S3 are real servers named by the environment."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Column, Query, Table, Warehouse
from health_pipeline.warehouse.extensions import load_extension

POSTGRES = "HEALTH_PIPELINE_TEST_POSTGRES"  # postgresql://user@host:port, a server on which databases may be created
S3 = "HEALTH_PIPELINE_TEST_S3"  # s3://bucket/prefix; endpoint and credentials in the AWS variables

VISITS = Table(
    "gold",
    "visits",
    (
        Column("month", "DATE", nullable=False),
        Column("visit_id", "VARCHAR", nullable=False),
        Column("cost", "DOUBLE"),
        Column("seen_at", "TIMESTAMP"),
        Column("planned", "BOOLEAN"),
    ),
    ("visit_id",),
)


def visits(first: str, months: int = 1, *, rows: int = 5, cost: float = 1.0) -> Query:
    """``rows`` visits in each of some months; ``cost`` tells generations apart."""
    return Query(
        f"""
        SELECT {cost}::DOUBLE * i AS cost, i % 2 = 0 AS planned, m::DATE AS month, 'v' || i AS visit_id,
            m + to_minutes(i::INT) AS seen_at
        FROM range({rows}) AS v(i),
            range(DATE '{first}-01', DATE '{first}-01' + INTERVAL {months} MONTH, INTERVAL 1 MONTH) AS r(m)
        """
    )


@pytest.fixture(params=["duckdb", "encrypted", "ducklake", "ducklake-postgres", "ducklake-postgres-s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of each backend, with storage of its own."""
    name = request.param
    warehouse: dict[str, object] = {"backend": name.partition("-")[0], "threads": 2, "lock_timeout_seconds": 30}
    if name == "encrypted":
        warehouse["encryption_key"] = "a key for tests only"
    if "s3" in name:
        if S3 not in os.environ:
            pytest.skip(f"no S3: {S3} is not set")
        warehouse["data_path"] = f"{os.environ[S3].rstrip('/')}/{uuid.uuid4().hex}"
    if "postgres" not in name:
        yield Settings(home=tmp_path, warehouse=warehouse)
        return
    if POSTGRES not in os.environ:
        pytest.skip(f"no PostgreSQL: {POSTGRES} is not set")
    server = os.environ[POSTGRES].rstrip("/")
    database = f"warehouse_{uuid.uuid4().hex}"
    _on_server(server, f"CREATE DATABASE {database}")
    try:
        yield Settings(home=tmp_path, warehouse={**warehouse, "catalog": f"{server}/{database}"})
    finally:
        _on_server(server, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    """An empty warehouse on each backend."""
    return Warehouse.from_settings(settings)


@pytest.fixture
def file_settings(tmp_path: Path) -> Settings:
    """Settings of the default backend."""
    return Settings(home=tmp_path, warehouse={"threads": 2, "lock_timeout_seconds": 30})


@pytest.fixture
def file_warehouse(file_settings: Settings) -> Warehouse:
    """An empty warehouse in a DuckDB file."""
    return Warehouse.from_settings(file_settings)


def rows_of(warehouse: Warehouse, sql: str) -> list[tuple]:
    """Result of a SELECT."""
    with warehouse.read("test") as connection:
        return connection.execute(sql).fetchall()


def _on_server(server: str, statement: str) -> None:
    with duckdb.connect() as connection:
        load_extension(connection, "postgres_scanner")
        connection.execute(f"ATTACH '{server}/postgres' AS server (TYPE postgres)")
        connection.execute(f"CALL postgres_execute('server', '{statement}', use_transaction=false)")
