"""A detector of features that see the future: take the future away, or scramble it, and nothing may change.

For whoever adds a feature: a query is honest when every row with ``discharged_at`` up to a moment is bit-identical
after everything recorded later was erased, and after it was scrambled. The detector knows nothing of how a feature is
made, so it also finds statistics over a whole extract, target encodings and gaps to the next stay.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from health_pipeline.errors import PipelineError
from health_pipeline.features.part import Inputs
from health_pipeline.warehouse.slices import Query, Slice

if TYPE_CHECKING:
    import duckdb

Manipulation = Literal["erased", "scrambled"]

ROW = "(row)"

_PROBE = "leak_probe"
# Column that says when a row was known, by source.
KNOWN_AT = {
    "admissions": "discharged_at",
    "patients": "recorded_at",
    "events": "recorded_at",
    "claims": "processed_at",
}
_IDENTITY = ("month", "encounter_id")
# Columns that keep a scrambled row valid; every other one takes the value of another future row.
_KEPT = ("month", "encounter_id", "claim_id", "admitted_at", "discharged_at", "recorded_at", "processed_at")


@dataclass(frozen=True)
class Leak:
    """A column whose value at the discharge depends on what was recorded later.

    Attributes:
        column: its name; ``(row)`` when rows appear or vanish.
        manipulation: what was done to the future when it changed.
        rows: rows that changed, over all cut-offs.
    """

    column: str
    manipulation: Manipulation
    rows: int


class LeakageError(PipelineError):
    """A feature query reads the future."""


def find_leaks(
    connection: duckdb.DuckDBPyConnection,
    build: Callable[[Inputs], Query],
    inputs: Inputs,
    cut_offs: Sequence[dt.datetime],
) -> tuple[Leak, ...]:
    """Columns of a feature query that change when the future does.

    The outcome column of every stay (``readmitted_30d``) belongs to the future as a whole, so it is flipped.

    Args:
        connection: writable; tables are made in the schema ``leak_probe`` and dropped again.
        build: the query over the four silver slices; its rows need month, encounter_id and discharged_at.
        inputs: slices of the silver tables.
        cut_offs: moments; more of them find more.
    """
    found: dict[tuple[str, Manipulation], int] = {}
    connection.execute(f"CREATE SCHEMA {_PROBE}")
    try:
        connection.execute(f"CREATE TABLE {_PROBE}.honest AS {build(inputs).sql}")
        columns = [row[0] for row in connection.execute(f"DESCRIBE {_PROBE}.honest").fetchall()]
        for manipulation in ("erased", "scrambled"):
            for cut_off in cut_offs:
                probe = _manipulate(connection, inputs, cut_off, manipulation)
                connection.execute(f"CREATE OR REPLACE TABLE {_PROBE}.probed AS {build(probe).sql}")
                for column, rows in _differences(connection, columns, cut_off).items():
                    found[column, manipulation] = found.get((column, manipulation), 0) + rows
    finally:
        connection.execute(f"DROP SCHEMA {_PROBE} CASCADE")
    return tuple(Leak(column, manipulation, rows) for (column, manipulation), rows in sorted(found.items()))


def assert_no_future(
    connection: duckdb.DuckDBPyConnection,
    build: Callable[[Inputs], Query],
    inputs: Inputs,
    cut_offs: Sequence[dt.datetime],
) -> None:
    """Like :func:`find_leaks`, but says no.

    Raises:
        LeakageError: names the columns.
    """
    leaks = find_leaks(connection, build, inputs, cut_offs)
    if leaks:
        columns = sorted({leak.column for leak in leaks})
        raise LeakageError(
            f"{len(columns)} columns change when what was recorded after the discharge is taken away",
            where=", ".join(columns),
            remedy="cut every source by recorded_at <= discharged_at, and let no statistic span the extract",
        )


def _manipulate(
    connection: duckdb.DuckDBPyConnection, inputs: Inputs, cut_off: dt.datetime, manipulation: Manipulation
) -> Inputs:
    probes: dict[str, Slice] = {}
    for field in fields(Inputs):
        source: Slice = getattr(inputs, field.name)
        known_at = KNOWN_AT[field.name]
        rows = f"SELECT * FROM {source} AS t WHERE {known_at} <= $cut_off"
        if manipulation == "scrambled":
            rows += f" UNION ALL BY NAME {_scrambled(source, known_at)}"
        if field.name == "admissions":
            rows = f"SELECT * REPLACE (NOT readmitted_30d AS readmitted_30d) FROM ({rows})"
        connection.execute(f"CREATE OR REPLACE TABLE {_PROBE}.{source.table.name} AS {rows}", {"cut_off": cut_off})
        probes[field.name] = Slice(replace(source.table, schema=_PROBE), source.months, source.columns)
    return Inputs(**probes)


def _scrambled(source: Slice, known_at: str) -> str:
    """Future rows, each with the values (patients included) of its neighbour in an arbitrary, fixed order."""
    names = [name for name in source.table.column_names if name not in _KEPT]
    moved = ", ".join(f'coalesce(lead("{name}") OVER w, first_value("{name}") OVER w) AS "{name}"' for name in names)
    return (
        f"SELECT * REPLACE ({moved}) FROM {source} AS t WHERE {known_at} > $cut_off "
        f"WINDOW w AS (ORDER BY hash(t), {known_at} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    )


def _differences(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], cut_off: dt.datetime) -> dict[str, int]:
    compared = [name for name in columns if name not in _IDENTITY]
    on = " AND ".join(f"h.{name} = p.{name}" for name in _IDENTITY)
    alone = "(h.encounter_id IS NULL OR p.encounter_id IS NULL)"
    counts = [f"count(*) FILTER ({alone})"] + [
        f'count(*) FILTER (NOT {alone} AND h."{name}" IS DISTINCT FROM p."{name}")' for name in compared
    ]
    known = "(SELECT * FROM {} WHERE discharged_at <= $cut_off)"
    sql = (
        f"SELECT {', '.join(counts)} FROM {known.format(f'{_PROBE}.honest')} AS h "
        f"FULL JOIN {known.format(f'{_PROBE}.probed')} AS p ON {on}"
    )
    row = connection.execute(sql, {"cut_off": cut_off}).fetchone()
    assert row is not None
    return {name: count for name, count in zip((ROW, *compared), row, strict=True) if count}
