"""Kills processes while they replace months, and looks at what they left behind.

Run as a program: ``python -m health_pipeline_tests.warehouse.crash <settings json> <rounds> <rows> <seed>``. This
process never opens DuckDB itself; it forks a writer, kills it (SIGKILL) at a random moment, and forks a reader that
reports what is stored. Prints one JSON line for each round.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable

import duckdb

from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.warehouse.conftest import VISITS, visits

MONTHS = MonthRange.of("2022-01", "2022-03")


def generation(number: int, rows: int):
    """Content that differs in count and values from one generation to the next."""
    return visits("2022-01", len(MONTHS), rows=rows + number % 7, cost=float(number))


def write_forever(settings: Settings, first: int, rows: int, out: int) -> None:
    """Replace the months by one generation after another; say ``b`` before and ``d`` after each."""
    warehouse = Warehouse.from_settings(settings)
    number = first
    while True:
        os.write(out, b"b")
        warehouse.replace(VISITS, MONTHS, generation(number, rows))
        os.write(out, b"d")
        number += 1


def read_state(settings: Settings, _first: int, rows: int, out: int) -> None:
    """Write the stored generation as JSON, after comparing every month with that generation, row by row hashed."""
    warehouse = Warehouse.from_settings(settings)
    reports = warehouse.reports(VISITS, MONTHS)
    with warehouse.read("newest") as connection:
        newest = connection.execute(
            'SELECT max(cost), min(cost) FROM "gold"."visits" WHERE visit_id = \'v1\''
        ).fetchone()
    number = int(newest[0]) if newest and newest[0] is not None else -1
    expected = []
    if number >= 0:
        columns = ", ".join(VISITS.column_names)
        with duckdb.connect() as memory:
            found = memory.execute(
                f"SELECT month, count(*), sum(hash({columns})), bit_xor(hash({columns})) "
                f"FROM ({generation(number, rows).sql}) GROUP BY month ORDER BY month"
            ).fetchall()
        expected = [[count, f"{total % 2**64:016x}{mixed:016x}{count:x}"] for _, count, total, mixed in found]
    stored = [[report.rows, report.content_hash] for report in reports]
    whole = stored == expected if number >= 0 else all(rows == 0 for rows, _ in stored)
    os.write(out, json.dumps({"generation": number, "whole": whole}).encode())


def forked(
    job: Callable[[Settings, int, int, int], None], settings: Settings, first: int, rows: int
) -> tuple[int, int]:
    """Process id and the reading end of what the job writes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            job(settings, first, rows, writer)
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def drain(reader: int) -> bytes:
    """Everything until the writing end is closed."""
    parts = []
    while part := os.read(reader, 65_536):
        parts.append(part)
    os.close(reader)
    return b"".join(parts)


def main(settings_json: str, rounds: int, rows: int, seed: int) -> None:
    settings = Settings.model_validate_json(settings_json)
    chance = random.Random(seed)
    first, longest = 0, 1.0
    for number in range(rounds):
        child, reader = forked(write_forever, settings, first, rows)
        begun = time.monotonic()
        select.select([reader], [], [])
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said = drain(reader)
        done = said.count(b"d")
        if done:
            longest = min(longest, 1.5 * (time.monotonic() - begun) / done)
        child, reader = forked(read_state, settings, first, rows)
        state = json.loads(drain(reader))
        os.waitpid(child, 0)
        acknowledged = first + done - 1
        # The last commit may have happened although the writer did not live to say so.
        state |= {"round": number, "acknowledged": acknowledged, "in_flight": said.count(b"b") > done}
        state["kept"] = state["generation"] in {acknowledged, acknowledged + 1}
        sys.stdout.write(json.dumps(state) + "\n")
        sys.stdout.flush()
        first = max(state["generation"], acknowledged) + 1


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
