"""The queue in front of the warehouse: fair, bounded, and not stopped by the dead."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from health_pipeline.errors import LockTimeoutError
from health_pipeline.warehouse.lock import Ticket, TicketLock

HOLD = """
import sys, time
from pathlib import Path
from health_pipeline.warehouse.lock import TicketLock
TicketLock(Path(sys.argv[1])).acquire(sys.argv[2], "nightly backfill", 10)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> TicketLock:
    return TicketLock(tmp_path / "queue")


def holder(lock: TicketLock, kind: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock.folder), kind], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_readers_share(lock: TicketLock) -> None:
    first = lock.acquire("read", "one", 1)
    second = lock.acquire("read", "two", 1)
    assert [str(holder).split(" of")[0] for holder in lock.queue()] == ["read 'one'", "read 'two'"]
    first.release()
    second.release()
    assert lock.queue() == []


@pytest.mark.parametrize(("held", "wanted"), [("write", "write"), ("write", "read"), ("read", "write")])
def test_a_writer_is_alone(lock: TicketLock, held: str, wanted: str) -> None:
    ticket = lock.acquire(held, "first", 1)
    with pytest.raises(LockTimeoutError):
        lock.acquire(wanted, "second", 0.05)
    ticket.release()
    lock.acquire(wanted, "second", 1).release()


def test_the_time_out_is_bounded_and_names_the_holder(lock: TicketLock) -> None:
    process = holder(lock, "write")
    try:
        begun = time.monotonic()
        with pytest.raises(LockTimeoutError) as refused:
            lock.acquire("read", "scoring 2023-05", 0.3)
        assert 0.3 <= time.monotonic() - begun < 2
        assert f"held by write 'nightly backfill' of process {process.pid} on " in str(refused.value)
        assert "waited 0.3 s to read ('scoring 2023-05')" in str(refused.value)
        assert refused.value.remedy
        assert [entry.pid for entry in lock.queue()] == [process.pid]  # who gave up has left the queue
    finally:
        end(process)


def test_a_killed_holder_frees_the_lock(lock: TicketLock) -> None:
    process = holder(lock, "write")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert any(path.name.endswith("-write") for path in lock.folder.iterdir())  # its ticket is still there
    lock.acquire("write", "next", 1).release()
    assert [path.name for path in lock.folder.iterdir()] == ["counter"]


def test_first_come_first_served_and_readers_do_not_starve_a_writer(lock: TicketLock) -> None:
    order: list[str] = []
    started: list[threading.Thread] = []
    head = lock.acquire("read", "head", 1)

    def queue_up(name: str, kind: str) -> None:
        def visit() -> None:
            ticket: Ticket = lock.acquire(kind, name, 10)
            order.append(name)
            time.sleep(0.01)
            ticket.release()

        thread = threading.Thread(target=visit)
        thread.start()
        started.append(thread)
        while len(lock.queue()) < len(started) + 1:
            time.sleep(0.001)

    queue_up("writer 1", "write")
    queue_up("reader 2", "read")  # could share with the head, but the writer came first
    queue_up("writer 3", "write")
    queue_up("writer 4", "write")
    assert order == []
    head.release()
    for thread in started:
        thread.join()
    assert order == ["writer 1", "reader 2", "writer 3", "writer 4"]


def test_a_lost_counter_does_not_overtake(lock: TicketLock) -> None:
    held = lock.acquire("write", "first", 1)
    (lock.folder / "counter").unlink()
    with pytest.raises(LockTimeoutError):
        lock.acquire("write", "second", 0.05)
    held.release()


def test_what_a_killed_process_left_half_drawn_is_swept_away(lock: TicketLock) -> None:
    lock.acquire("read", "makes the folder", 1).release()
    (lock.folder / "draft").write_text("half a tick")
    lock.acquire("write", "next", 1).release()
    assert [path.name for path in lock.folder.iterdir()] == ["counter"]


def test_a_forked_child_does_not_keep_the_ticket_of_its_parent(lock: TicketLock) -> None:
    held = lock.acquire("write", "parent", 1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    held.path.rename(held.path.with_name("kept"))  # release() cannot remove it, so only the file lock speaks
    held.release()
    held.path.with_name("kept").rename(held.path)
    lock.acquire("write", "next", 1).release()
    os.close(writer)
    os.waitpid(child, 0)


def test_a_full_disk_costs_no_descriptor(lock: TicketLock, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.acquire("write", "before", 1).release()
    opened = len(list(Path("/proc/self/fd").iterdir()))

    def full(descriptor: int, text: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                lock.acquire("write", "on the full disk", 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    lock.acquire("write", "after", 1).release()


@pytest.mark.parametrize("left", [b"", b"\0" * 20])
def test_a_counter_that_a_power_cut_left_unwritten_starts_behind_those_who_wait(lock: TicketLock, left: bytes) -> None:
    first = lock.acquire("write", "first", 1)
    (lock.folder / "counter").write_bytes(left)
    with pytest.raises(LockTimeoutError):
        lock.acquire("write", "second", 0.05)
    first.release()
    lock.acquire("write", "third", 1).release()
