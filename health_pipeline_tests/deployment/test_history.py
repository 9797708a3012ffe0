from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from health_pipeline.clock import frozen_clock
from health_pipeline.deployment.history import HISTORY, Event, History, verify_chain
from health_pipeline.errors import DeploymentError

MAY = dt.date(2023, 5, 1)
CLOCK = frozen_clock(dt.datetime(2023, 6, 1, 3, tzinfo=dt.UTC))


def append(history: History, step: str = "rollout", month: dt.date = MAY) -> Event:
    return history.append(month=month, attempt="a1", actor="test", step=step, outcome="pass", evidence={"p99": 0.01})


@pytest.fixture
def history(tmp_path) -> History:
    made = History(tmp_path / "deployment" / "history.ndjson", CLOCK)
    for step in ("registered_model", "rollout", "promotion"):
        append(made, step)
    return made


def test_events_come_back_chained(history):
    events = history.events()
    assert [event.step for event in events] == ["registered_model", "rollout", "promotion"]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert events[2].previous_hash == events[1].row_hash
    assert verify_chain(events) == history.verify() == []


def test_every_kind_of_tampering_is_seen(history):
    lines = history.path.read_bytes().splitlines(keepends=True)
    for broken in (
        [lines[0], lines[1].replace(b'"pass"', b'"fail"'), lines[2]],
        [lines[0], lines[2]],
        [lines[1], lines[0], lines[2]],
        [*lines, lines[2]],
    ):
        history.path.write_bytes(b"".join(broken))
        assert history.verify()
        with pytest.raises(DeploymentError, match="tampered"):
            append(history)


def test_a_forged_row_with_its_own_hash_breaks_the_next_row(history):
    from health_pipeline.deployment.history import hash_event

    events = history.events()
    forged = msgspec.structs.replace(events[1], outcome="fail")
    events[1] = msgspec.structs.replace(forged, row_hash=hash_event(forged))
    assert verify_chain(events) == ["row 3 does not follow the row before it"]


def test_a_cut_tail_is_seen_against_the_mirror(history):
    mirrored = {event.sequence: event.row_hash for event in history.events()}
    history.path.write_bytes(b"".join(history.path.read_bytes().splitlines(keepends=True)[:2]))
    assert history.verify() == []
    assert history.verify(mirrored) == ["row 3 of the table is not in the log"]


def test_a_torn_line_is_cut_off_and_kept_beside(history):
    with history.path.open("ab") as file:
        file.write(b'{"sequence": 4, "reco')
    assert len(history.events()) == 3
    assert append(history).sequence == 4
    assert history.verify() == []
    assert b'"reco' in history.path.with_suffix(".torn").read_bytes()


def test_rows_fit_the_table(history):
    append(history, month=dt.date(2023, 6, 1))
    rows = history.rows([MAY])
    assert len(rows) == 3
    assert set(rows[0]) == set(HISTORY.column_names)
    assert rows[0]["month"] == MAY
    assert rows[0]["evidence"] == '{"p99":0.01}'


def test_writers_at_once_make_one_chain(history):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: append(history), range(20)))
    assert len(history.events()) == 23
    assert history.verify() == []


def test_a_kill_at_any_moment_leaves_a_whole_chain(tmp_path):
    path = tmp_path / "history.ndjson"
    code = (
        "import datetime as dt, sys; from pathlib import Path\n"
        "from health_pipeline.clock import system_clock\n"
        "from health_pipeline.deployment.history import History\n"
        f"h = History(Path({str(path)!r}), system_clock)\n"
        "while True: h.append(month=dt.date(2023,5,1), attempt='a', actor='t', step='s', outcome='pass',"
        " evidence={'x': 'y' * 3000})\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code])
        end = time.monotonic() + 20
        size = path.stat().st_size if path.exists() else 0
        while not path.exists() or path.stat().st_size < size + 20_000:
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        history = History(path, CLOCK)
        count = len(history.events())
        assert count > 3
        assert append(history).sequence == count + 1
        assert history.verify() == []
