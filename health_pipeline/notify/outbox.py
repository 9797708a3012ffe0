"""The outbox: every alert on disk before it is sent, each delivery with its fate.

A delivery is claimed before it is tried, so that two processes never send the same one. When a process dies between
sending and noting it, the claim expires and the delivery is tried again: a receiver then sees the same event id twice.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from health_pipeline.notify.alert import Alert

CLAIM = dt.timedelta(minutes=10)
_LONGEST_WAIT = dt.timedelta(hours=1)
_TABLES = """
CREATE TABLE IF NOT EXISTS events (event_id TEXT PRIMARY KEY, created_at TEXT NOT NULL, alert TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  event_id TEXT NOT NULL REFERENCES events, channel TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
  attempts INTEGER NOT NULL DEFAULT 0, due_at TEXT NOT NULL, sent_at TEXT, error TEXT,
  PRIMARY KEY (event_id, channel));
CREATE INDEX IF NOT EXISTS due ON deliveries (state, due_at);
"""


@dataclass(frozen=True)
class Delivery:
    """One alert on its way to one channel.

    Attributes:
        alert: what is told.
        channel: name of the channel.
        state: ``pending``, ``sending``, ``sent`` or ``failed`` (given up).
        attempts: tries so far.
        error: what the channel said last.
    """

    alert: Alert
    channel: str
    state: str
    attempts: int
    error: str | None = None


class Outbox:
    """Durable queue in a SQLite file; safe for several processes.

    Args:
        path: file; created with its folder when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def add(self, alert: Alert, channels: Sequence[str], now: dt.datetime) -> bool:
        """Put an alert in, once for each channel.

        Returns:
            Whether the event is new; an event that is known is left as it is.
        """
        with self._transaction() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?)",
                (alert.event_id, now.isoformat(), json.dumps(asdict(alert), sort_keys=True)),
            ).rowcount
            if added:
                self._queue(connection, alert, channels, now)
        return bool(added)

    @staticmethod
    def _queue(connection: sqlite3.Connection, alert: Alert, channels: Sequence[str], now: dt.datetime) -> None:
        connection.executemany(
            "INSERT OR IGNORE INTO deliveries (event_id, channel, state, due_at) VALUES (?, ?, 'pending', ?)",
            [(alert.event_id, channel, now.isoformat()) for channel in channels],
        )

    def claim(self, channels: Sequence[str], now: dt.datetime) -> Delivery | None:
        """Take the oldest delivery that is due to one of these channels, for itself until the claim expires.

        None waits for more than an hour: what is due later than that was noted before the clock was set back.
        """
        marks = ", ".join("?" for _ in channels)
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT event_id, channel, attempts, error FROM deliveries WHERE state IN ('pending', 'sending') "
                f"AND (due_at <= ? OR due_at > ?) AND channel IN ({marks}) ORDER BY due_at, rowid LIMIT 1",
                (now.isoformat(), (now + _LONGEST_WAIT).isoformat(), *channels),
            ).fetchone()
            if row is None:
                return None
            event, channel, attempts, error = row
            connection.execute(
                "UPDATE deliveries SET state = 'sending', attempts = attempts + 1, due_at = ? "
                "WHERE event_id = ? AND channel = ?",
                ((now + CLAIM).isoformat(), event, channel),
            )
            alert = connection.execute("SELECT alert FROM events WHERE event_id = ?", (event,)).fetchone()[0]
        return Delivery(_alert(alert), channel, "sending", attempts + 1, error)

    def sent(self, delivery: Delivery, now: dt.datetime) -> None:
        """Note that the channel took it."""
        self._finish(delivery, "sent", now, None, sent_at=now)

    def refused(self, delivery: Delivery, error: str, now: dt.datetime, attempts: int, wait: dt.timedelta) -> str:
        """Note that the channel did not take it.

        Args:
            delivery: as claimed.
            error: what the channel said.
            now: time of the refusal.
            attempts: tries before it is given up.
            wait: after the first refusal; doubles with each, up to an hour.

        Returns:
            ``pending`` when it will be tried again, ``failed`` when given up.
        """
        if delivery.attempts >= attempts:
            self._finish(delivery, "failed", now, error)
            return "failed"
        # In floating point: a timedelta, and the integer that it is multiplied with, overflow after some forty tries.
        seconds = wait.total_seconds() * 2.0 ** min(delivery.attempts - 1, 100)
        later = now + dt.timedelta(seconds=min(_LONGEST_WAIT.total_seconds(), seconds))
        self._finish(delivery, "pending", later, error)
        return "pending"

    def _finish(
        self, delivery: Delivery, state: str, due_at: dt.datetime, error: str | None, sent_at: dt.datetime | None = None
    ) -> None:
        with self._transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, due_at = ?, error = ?, sent_at = ? "
                "WHERE event_id = ? AND channel = ?",
                (
                    state,
                    due_at.isoformat(),
                    error,
                    None if sent_at is None else sent_at.isoformat(),
                    delivery.alert.event_id,
                    delivery.channel,
                ),
            )

    def deliveries(self, *states: str) -> list[Delivery]:
        """Deliveries in these states (all when none is named), oldest event first."""
        marks = ", ".join("?" for _ in states)
        where = f"WHERE state IN ({marks}) " if states else ""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT alert, channel, state, attempts, error FROM deliveries JOIN events USING (event_id) "
                f"{where}ORDER BY created_at, events.rowid, channel",
                states,
            ).fetchall()
        return [Delivery(_alert(row[0]), *row[1:]) for row in rows]

    def readdress(self, delivery: Delivery, channels: Sequence[str], now: dt.datetime) -> None:
        """Put these channels in place of the delivery's own, as far as they have not had the alert."""
        with self._transaction() as connection:
            self._queue(connection, delivery.alert, channels, now)
            connection.execute(
                "DELETE FROM deliveries WHERE event_id = ? AND channel = ?",
                (delivery.alert.event_id, delivery.channel),
            )

    def retry_failed(self, now: dt.datetime) -> int:
        """Give every delivery that was given up a fresh set of tries; returns how many."""
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE deliveries SET state = 'pending', attempts = 0, due_at = ? WHERE state = 'failed'",
                (now.isoformat(),),
            ).rowcount


def _alert(text: str) -> Alert:
    fields = json.loads(text)
    return Alert(**{**fields, "links": tuple((title, address) for title, address in fields["links"])})
