"""Dagster's SQLite storage with connections that stay open and batches that are one transaction.

Belongs here: how quickly the instance's records reach the disk. Does not belong here: what is recorded.

The stock SQLite event log makes a new engine, two connections and up to three commits for every event, and a closing
last connection empties the write-ahead log: 15 to 50 ms an event, two events for each month and asset. Files, schema
and transactions are the same here, so the stock storage reads what this one wrote and the other way round.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any, Self

from dagster._core.event_api import EventLogRecord, EventRecordsFilter
from dagster._core.events import ASSET_CHECK_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

OPEN_RUNS = 8
"""Databases of runs that stay open; the index stays open always."""


class PooledEventLogStorage(SqliteEventLogStorage):
    """Event log of one database a run and an index, with pooled connections."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._batch: dict[str, Connection] | None = None
        super().__init__(base_dir, inst_data)
        # What a batch does within its transaction takes the lock again; other threads wait for the end of it.
        self._db_lock = RLock()  # type: ignore[assignment]

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events in one transaction a database: all of them or none."""
        with self._db_lock, ExitStack() as transactions:
            self._batch = {}
            try:
                for shard in (events[0].run_id, INDEX_SHARD_NAME):
                    connection = transactions.enter_context(self._engine(shard).connect())
                    transactions.enter_context(connection.begin())
                    self._batch[shard] = connection
                for entry in events:
                    self.store_event(entry)
            finally:
                self._batch = None

    def get_event_records(
        self, event_records_filter: EventRecordsFilter, limit: int | None = None, ascending: bool = False
    ) -> Sequence[EventLogRecord]:
        """Check evaluations are mirrored in the index: a cursor reads them across runs, as on PostgreSQL."""
        if event_records_filter.event_type in ASSET_CHECK_EVENTS:
            return SqlEventLogStorage.get_event_records(self, event_records_filter, limit, ascending)
        return super().get_event_records(event_records_filter, limit, ascending)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if self._batch is not None and shard in self._batch:
                yield self._batch[shard]
                return
            with self._engine(shard).connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.get(shard)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            event.listen(engine, "connect", _relax)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        for oldest in [name for name in self._engines if name != INDEX_SHARD_NAME][:-OPEN_RUNS]:
            self._engines.pop(oldest).dispose()
        return engine

    def dispose(self) -> None:
        """Close every connection."""
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()
        super().dispose()


def _relax(connection: Any, _record: object) -> None:
    # In WAL mode NORMAL keeps the database whole through any crash; only a power cut may lose the newest records.
    connection.execute("PRAGMA synchronous=NORMAL")


class PooledSqliteStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite under one folder, laid out as Dagster's default storage does."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        folder = self._event_log_storage._base_dir
        self._event_log_storage = PooledEventLogStorage(folder)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, str]) -> Self:  # type: ignore[override]
        """Called by Dagster with the ``config`` of dagster.yaml."""
        return cls.from_local(inst_data=inst_data, **config_value)
