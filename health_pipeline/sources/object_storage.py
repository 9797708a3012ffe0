"""Object storage (``s3://``) through DuckDB's httpfs: connections, listings, bytes, and retries of connection faults.

DuckDB repeats a failed request within a statement; what still fails is repeated here with exponential back-off. Only
faults of the connection are repeated: an object that is corrupt, missing or forbidden stays so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import duckdb
import structlog

from health_pipeline.errors import LandingError
from health_pipeline.warehouse.extensions import use_s3

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], None]

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.5
REQUEST_TIMEOUT_SECONDS = 30

# As DuckDB's httpfs words it: "<fault of the transport> error for HTTP GET to ...", "... HTTP 503 ...".
_CONNECTION_FAULT = re.compile(r"error for HTTP [A-Z]+ to|HTTP (408|429|5\d\d)\b")


def is_remote(uri: str) -> bool:
    """Whether an address is in object storage."""
    return "://" in uri


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a connection read ``s3://`` with the AWS variables of the environment, and repeat failed requests.

    Within a transaction nothing else repeats them, so DuckDB itself waits up to 6 s in all (0.2, 0.4, 0.8, 1.6, 3.2).
    """
    use_s3(connection)
    _repeat_requests(connection, times=5)


def _repeat_requests(connection: duckdb.DuckDBPyConnection, times: int) -> None:
    connection.execute(f"SET http_timeout = {REQUEST_TIMEOUT_SECONDS}")
    connection.execute(f"SET http_retries = {times}")
    connection.execute("SET http_retry_wait_ms = 200")
    connection.execute("SET http_retry_backoff = 2")


@contextmanager
def reader(*, remote: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that looks at landed files before any table is touched."""
    connection = duckdb.connect(":memory:")
    try:
        if remote:
            use_s3(connection)
            _repeat_requests(connection, times=1)
        yield connection
    finally:
        connection.close()


def is_connection_fault(error: Exception) -> bool:
    """Whether trying again may help."""
    return isinstance(error, duckdb.Error) and _CONNECTION_FAULT.search(str(error)) is not None


def with_retries(action: Callable[[], T], purpose: str, *, sleep: Sleep = time.sleep) -> T:
    """Call ``action``; repeat it with doubled waits while the connection is at fault.

    Raises:
        Exception: the last fault, or at once any that is not the connection's.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except duckdb.Error as error:
            if not is_connection_fault(error):
                raise
            wait = FIRST_WAIT_SECONDS * 2 ** (attempt - 1)
            log.warning("object storage does not answer, trying again", purpose=purpose, attempt=attempt, wait_s=wait)
            sleep(wait)
    return action()


class StoredObject(NamedTuple):
    """An object, unopened; ``written_at`` in POSIX seconds."""

    path: str
    size: int
    written_at: float


def list_objects(pattern: str, *, sleep: Sleep = time.sleep) -> list[StoredObject]:
    """Objects that match a pattern with ``*``; the listing itself says size and time, no object is asked for them.

    Raises:
        LandingError: the store cannot be reached or refuses.
    """
    listing = "SELECT filename, size, epoch(last_modified) FROM read_blob($1)"
    try:
        with reader(remote=True) as connection:
            found = with_retries(lambda: connection.execute(listing, [pattern]).fetchall(), "list", sleep=sleep)
        return [StoredObject(path, size, written_at) for path, size, written_at in found]
    except duckdb.Error as error:
        raise LandingError(
            "the landing zone cannot be reached" if is_connection_fault(error) else "the landing zone cannot be listed",
            where=pattern,
            remedy="check the address, the network and the AWS_* variables (keys, region, AWS_ENDPOINT_URL)",
        ) from None


def read_bytes(connection: duckdb.DuckDBPyConnection, path: str) -> bytes:
    """A whole object."""
    row = connection.execute("SELECT content FROM read_blob($1)", [path]).fetchone()
    return bytes(row[0]) if row else b""
