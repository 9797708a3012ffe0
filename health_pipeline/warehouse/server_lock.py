"""Turns of writers where PostgreSQL holds the catalog: one writer a table, first come first served, on all machines.

DuckLake lets two transactions that write one table never commit both, whatever months they touch: all but one would do
their whole work again. So they queue before they begin, on an advisory lock of the catalog's server, which PostgreSQL
frees when its holder ends, however it ends. Writers of different tables work at once, and readers never wait.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from health_pipeline.errors import LockTimeoutError, WarehouseError
from health_pipeline.warehouse.extensions import quote
from health_pipeline.warehouse.transactions import without_values

if TYPE_CHECKING:
    from health_pipeline.warehouse.tables import Table

_ARBITER = "arbiter"
_REMEDY = "see whether the catalog's server can be reached: HEALTH_PIPELINE_WAREHOUSE__CATALOG"
_NAME_BYTES = 63
"""PostgreSQL cuts application names there."""


@contextmanager
def table_turn(
    connection: duckdb.DuckDBPyConnection, server: str, table: Table, purpose: str, timeout_seconds: float
) -> Iterator[None]:
    """Be the only writer of a table until the block ends.

    Args:
        connection: of the DuckDB instance that writes; the turn is held by a cursor of its own.
        server: connection string of the catalog's server.
        table: what is written.
        purpose: shown to those who wait in vain.
        timeout_seconds: longest wait.

    Raises:
        LockTimeoutError: the wait was too long; names who holds the turn.
    """
    key = f"hashtext('health-pipeline'), hashtext({quote(table.qualified)})"
    name = f"process {os.getpid()} on {socket.gethostname()}: {purpose}".encode()[:_NAME_BYTES].decode(errors="ignore")
    settings = {"lock_timeout": f"{max(int(timeout_seconds * 1000), 1)}ms", "application_name": name}
    local = ", ".join(f"set_config({quote(key)}, {quote(value)}, true)" for key, value in settings.items())
    with connection.cursor() as arbiter:
        try:
            arbiter.execute(f"ATTACH IF NOT EXISTS {quote(server)} AS {_ARBITER} (TYPE postgres, READ_ONLY)")
            arbiter.execute("BEGIN")
            # The settings have to hold before the wait begins, so they are a query of their own.
            _ask(arbiter, f"SELECT 1 AS done FROM (SELECT {local}) AS s")
            _ask(arbiter, f"SELECT 1 AS done FROM (SELECT pg_advisory_xact_lock({key})) AS s")
        except duckdb.Error as error:
            if "lock timeout" not in str(error):
                raise WarehouseError(without_values(error), where=table.qualified, remedy=_REMEDY) from None
            arbiter.execute("ROLLBACK")
            raise LockTimeoutError(
                f"waited {timeout_seconds:g} s to write ('{purpose}'); held by {_holder(arbiter, key)}",
                where=table.qualified,
                remedy="wait for it or end it, or raise HEALTH_PIPELINE_WAREHOUSE__LOCK_TIMEOUT_SECONDS",
            ) from None
        try:
            yield
        finally:
            arbiter.execute("ROLLBACK")


def _holder(arbiter: duckdb.DuckDBPyConnection, key: str) -> str:
    words = f"""
        SELECT a.application_name AS name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint, l.objid::bigint) =
            (SELECT k.a::bit(32)::bigint, k.b::bit(32)::bigint FROM (SELECT {key}) AS k(a, b))
    """
    rows = _ask(arbiter, words)
    return str(rows[0][0]) if rows else "somebody who has just left"


def _ask(arbiter: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return arbiter.execute(f"SELECT * FROM postgres_query('{_ARBITER}', {quote(sql)})").fetchall()
