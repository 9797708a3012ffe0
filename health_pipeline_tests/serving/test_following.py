"""The serving process follows the traffic manifest, whatever happens while it does."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from health_pipeline.serving import process
from health_pipeline.serving.app import State
from health_pipeline.serving.places import Places
from health_pipeline.serving.scorers import load_scorer
from health_pipeline.serving.traffic import Route, Traffic, write_traffic
from health_pipeline.settings import load_settings
from health_pipeline_tests.serving.bundles import linear_bundle, pack

PATIENCE_SECONDS = 3.0


async def until(reached) -> None:
    end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not reached() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)


def traffic(generation: int, release) -> Traffic:
    return Traffic(generation=generation, routes=(Route(release.release_id, release.digest, 1.0),))


def test_a_manifest_that_changes_while_the_process_starts_is_taken_over(tmp_path, monkeypatch):
    """A worker is started again while the way back is written: it must not go on with the release it left."""
    settings = load_settings(home=tmp_path)
    places = Places.of(settings.home, "production")
    former, bad = pack(linear_bundle(), tmp_path), pack(linear_bundle(1.0), tmp_path)
    write_traffic(places.traffic, traffic(1, bad))
    engines = []

    def load(folder, release):
        if release.release_id == bad.release_id:
            write_traffic(places.traffic, traffic(2, former))
        return load_scorer(folder, release)

    def create_app(engine, *_arguments, **_named):
        engines.append(engine)
        return SimpleNamespace(is_draining=False)

    class Server:
        should_exit = False

        def handle_exit(self, *_arguments): ...

        async def serve(self, sockets):
            await until(lambda: engines[0].live.traffic.generation == 2)

    monkeypatch.setattr(process, "create_app", create_app)
    monkeypatch.setattr(process, "configure_logging", lambda: None)
    monkeypatch.setattr(process, "signal", SimpleNamespace(**{**vars(signal), "signal": lambda *_: None}))
    monkeypatch.setattr(process.uvicorn, "Config", lambda *_arguments, **_named: None)
    monkeypatch.setattr(process.uvicorn, "Server", lambda _config: Server())
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        process.run_worker(settings, places, sock, load=load)
    assert engines[0].live.traffic.generation == 2


@pytest.mark.parametrize("trouble", [OSError(24, "Too many open files"), MemoryError()])
def test_trouble_with_one_manifest_does_not_end_the_watch(tmp_path, trouble):
    path = tmp_path / "traffic.json"
    release = SimpleNamespace(release_id="r", digest="sha256:1")
    taken: list[int] = []

    def prepare(wanted: Traffic):
        if wanted.generation == 1:
            raise trouble
        return wanted

    engine = SimpleNamespace(prepare=prepare, take_over=lambda live: taken.append(live.generation))
    state = State()

    async def follow() -> None:
        watcher = asyncio.create_task(process._watch(path, engine, state, None))
        write_traffic(path, traffic(1, release))
        await until(lambda: state.rejected is not None or watcher.done())
        assert state.rejected is not None
        assert state.rejected["generation"] == 1
        write_traffic(path, traffic(2, release))
        await until(lambda: bool(taken))
        watcher.cancel()

    asyncio.run(follow())
    assert taken == [2]
    assert state.rejected is None


def test_a_manifest_that_cannot_be_looked_at_for_a_while_does_not_end_the_watch(tmp_path, monkeypatch):
    """A share that hangs, permissions that somebody mends: what served serves on, and the next manifest is followed."""
    path = tmp_path / "traffic.json"
    write_traffic(path, traffic(1, SimpleNamespace(release_id="r", digest="sha256:1")))
    seen, taken, is_away = process._stamp(path), [], [True]
    engine = SimpleNamespace(
        prepare=lambda wanted: wanted,
        take_over=lambda live: taken.append(live.generation),
        retire=lambda: taken.append("retired"),
    )
    state = State()

    def away(method):
        def tried(self, *arguments, **named):
            if is_away[0] and self == path:
                raise OSError(errno.ESTALE, "Stale file handle")
            return method(self, *arguments, **named)

        return tried

    monkeypatch.setattr(Path, "stat", away(Path.stat))
    monkeypatch.setattr(Path, "read_bytes", away(Path.read_bytes))

    async def follow() -> None:
        watcher = asyncio.create_task(process._watch(path, engine, state, seen))
        await until(lambda: state.rejected is not None or watcher.done())
        assert state.rejected is not None
        is_away[0] = False
        await until(lambda: bool(taken))
        watcher.cancel()

    asyncio.run(follow())
    assert taken == [1]
    assert state.rejected is None
