"""Transactions that end, errors without values of rows, and another try where a database server found a conflict."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import duckdb

from health_pipeline.errors import LockTimeoutError, PipelineError, WarehouseError

Result = TypeVar("Result")

_LONGEST_PAUSE_SECONDS = 1.0


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end of the block, roll back when it fails."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        try:
            connection.execute("ROLLBACK")
        except duckdb.TransactionException:
            # A failed COMMIT has ended the transaction itself.
            raise error from None
        raise


def retry_conflicts(work: Callable[[], Result], what: str, timeout_seconds: float) -> Result:
    """Do ``work`` again while it fails because another writer of the same server committed first.

    Args:
        work: a whole transaction.
        what: named in errors.
        timeout_seconds: no new try begins later than this.

    Raises:
        LockTimeoutError: other writers kept winning.
        WarehouseError: the work failed for another reason.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = 0.02
    while True:
        try:
            return work()
        except PipelineError:
            raise
        except duckdb.Error as error:
            if not is_conflict(error):
                raise WarehouseError(
                    without_values(error), where=what, remedy="what was stored before is untouched; see the message"
                ) from None
            if time.monotonic() > deadline:
                raise LockTimeoutError(
                    f"other writers kept committing first for {timeout_seconds:g} s",
                    where=what,
                    remedy="try again, or raise HEALTH_PIPELINE_WAREHOUSE__LOCK_TIMEOUT_SECONDS",
                ) from None
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


_VALUES = re.compile(
    r"""'.*'|".*"  # from the first quote to the last: a value may hold quotes itself
    |(?<=\bvalue\ )[-+]?\d[\w.+-]*  # numbers that could not be cast stand without quotes
    |(?<=\()[-+.\w]+\ [-+*/%]\ [-+.\w]+(?=\))  # and so do the terms of an overflow""",
    re.DOTALL | re.VERBOSE,
)


def without_values(error: duckdb.Error) -> str:
    """DuckDB's message without values, which may be a patient's."""
    # The lines behind the first show the statement, or the value that could not be read once more.
    return f"{type(error).__name__}: " + _VALUES.sub("'...'", str(error).strip()).split("\n")[0]


def is_conflict(error: duckdb.Error) -> bool:
    """Whether a lost race between writers of one database server is all that went wrong."""
    text = str(error).lower()
    # "already exists": another process made the new catalog's tables a moment earlier.
    words = ("conflict", "could not serialize", "deadlock detected", "duplicate key value", '" already exists')
    # A commit can fail for other reasons too, on a full disk for instance: then nothing is won by doing it all again.
    may_lose = isinstance(error, duckdb.TransactionException) or "ducklake" in text
    return may_lose and any(word in text for word in words)
