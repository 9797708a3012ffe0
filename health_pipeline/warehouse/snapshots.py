"""Old snapshots of a DuckLake: what every replaced slice leaves behind, and how it goes away.

A DuckLake keeps the rows of replaced slices, so that an earlier state can be read. Nothing is removed on its own: the
data folder grows with every run until snapshots are expired and the files that only they need are deleted.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.errors import SettingsError
from health_pipeline.warehouse.backends import CATALOG
from health_pipeline.warehouse.transactions import retry_conflicts

if TYPE_CHECKING:
    from health_pipeline.clock import Clock
    from health_pipeline.warehouse.store import Warehouse

READER_GRACE = dt.timedelta(days=1)
"""Where a database server lets readers in at any time, a file is deleted this long after nobody new can reach it."""


@dataclass(frozen=True)
class Expired:
    """What was removed."""

    snapshots: int
    files: int


def expire_snapshots(warehouse: Warehouse, keep: dt.timedelta, clock: Clock) -> Expired:
    """Forget snapshots older than ``keep`` and delete the files that only they needed; the newest state always stays.

    Args:
        warehouse: a DuckLake; other backends keep no snapshots, so nothing is to be done.
        keep: for how long replaced rows can still be read.
        clock: what "older" counts from.

    Raises:
        SettingsError: ``keep`` is negative.
        LockTimeoutError: the wait for other users was too long.
    """
    if keep < dt.timedelta(0):
        raise SettingsError(
            "snapshots cannot be kept for less than no time", where="keep", remedy="give 0 days or more"
        )
    if not warehouse.backend.keeps_snapshots or warehouse.backend.is_new:
        return Expired(0, 0)
    now = clock()
    with warehouse.write("expire snapshots") as connection:

        def call(function: str, argument: str) -> int:
            def work() -> int:
                return len(connection.execute(f"CALL {function}('{CATALOG}', {argument})").fetchall())

            return retry_conflicts(work, function, warehouse.lock_timeout_seconds)

        snapshots = call("ducklake_expire_snapshots", f"older_than => {_moment(now - keep)}")
        # The file lock says that nobody reads now; a server cannot.
        unread = "cleanup_all => true" if warehouse.backend.file else f"older_than => {_moment(now - READER_GRACE)}"
        return Expired(snapshots, call("ducklake_cleanup_old_files", unread))


def _moment(moment: dt.datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(dt.UTC).isoformat()}'"
