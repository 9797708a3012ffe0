"""The serving process: builds the application, follows the traffic manifest, drains when told to.

Signals: ``SIGUSR1`` begins draining (every answer carries ``Connection: close`` and readiness fails, so that clients
with kept-alive connections move on before the process goes), ``SIGTERM`` ends it after the open requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
import uvicorn

from health_pipeline.errors import DeploymentError
from health_pipeline.privacy.pseudonym import load_key
from health_pipeline.serving.app import State, create_app
from health_pipeline.serving.auth import BearerAuth
from health_pipeline.serving.counters import Counters
from health_pipeline.serving.engine import Engine, Scorer
from health_pipeline.serving.places import Places, resolve_token
from health_pipeline.serving.prediction_log import Hasher, PredictionLog
from health_pipeline.serving.protocol import PredictProtocol
from health_pipeline.serving.release import Release, read_release
from health_pipeline.serving.scorers import load_scorer
from health_pipeline.serving.traffic import Route, Traffic, read_traffic
from health_pipeline.settings import Settings

WATCH_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 75
MAX_CONNECTIONS = 2048

LoadScorer = Callable[[Path, Release], Scorer]

_log = structlog.get_logger(__name__)


def run_worker(
    settings: Settings,
    places: Places,
    sock: socket.socket,
    *,
    release: Path | None = None,
    parent: int | None = None,
    load: LoadScorer = load_scorer,
) -> None:
    """Serve until told to stop.

    Args:
        settings: limits, token, key of the hashes.
        places: files of the environment.
        sock: listening socket.
        release: serve just this release folder, without a traffic manifest (containers, trials).
        parent: process without which there is nobody to serve for; known by its number from the start, because it may
            be gone before this process has looked for the first time.
        load: builds scorers.

    Raises:
        DeploymentError: the release or the manifest cannot be served.
    """
    configure_logging()
    host = sock.getsockname()[0]
    auth = BearerAuth(resolve_token(settings, places), host)
    counters, state = Counters(), State()
    log = PredictionLog(places.predictions, Hasher(load_key(settings)), settings.serving.log_flush_seconds)
    engine = Engine(
        release.parent if release is not None else places.releases, load, counters, log, settings.serving.max_records
    )
    seen = _stamp(places.traffic)  # before it is read: what changes while models are loaded is taken over afterwards
    if release is not None:
        packed = read_release(release)
        traffic: Traffic | None = Traffic(generation=1, routes=(Route(release.name, packed.digest, 1.0),))
    else:
        traffic = read_traffic(places.traffic)
    if traffic is not None:
        engine.take_over(engine.prepare(traffic))
    # A full garbage collection would look through every module for 50 ms, while requests wait.
    gc.collect()
    gc.freeze()
    application = create_app(engine, auth, counters, prediction_log=log, settings=settings.serving, state=state)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http=PredictProtocol,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.serving.timeout_seconds) + 1,
            limit_concurrency=MAX_CONNECTIONS,
        )
    )

    async def serve() -> None:
        def drain() -> None:
            application.is_draining = True
            _log.info("draining")

        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, drain)
        watchers = []
        if release is None:
            watchers.append(asyncio.create_task(_watch(places.traffic, engine, state, seen)))
        if parent is not None:
            watchers.append(asyncio.create_task(_watch_parent(parent, server)))
        await server.serve(sockets=[sock])
        for watcher in watchers:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has served. Nobody else handling it, the process would die there,
        # with the end of the log and the counts of inputs unwritten.
        signal.signal(number, server.handle_exit)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())
    engine.close()
    log.close()
    if server.should_exit:  # at once, whatever a thread still scores that nobody waits for any more
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


Stamp = tuple[int, int, int] | None


async def _watch_parent(parent: int, server: uvicorn.Server) -> None:
    """End when the process that started this one is gone: a new one must be able to take its place."""
    while os.getppid() == parent:
        await asyncio.sleep(WATCH_SECONDS)
    _log.error("parent_gone")
    server.should_exit = True


async def _watch(path: Path, engine: Engine, state: State, seen: Stamp) -> None:
    """Take over each new generation of the manifest; one that cannot be loaded changes nothing but the report.

    Args:
        path: the manifest.
        engine: takes it over.
        state: gets the report.
        seen: stamp of the manifest that the engine was started with.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        stamp = _stamp(path)
        if stamp == seen:
            continue
        seen = stamp
        generation = None
        try:
            traffic = read_traffic(path)
            if traffic is None:
                engine.retire()
                continue
            generation = traffic.generation
            live = await loop.run_in_executor(None, engine.prepare, traffic)
        except Exception as error:  # noqa: BLE001  (a watcher that died would never follow a manifest again)
            reason = str(error) if isinstance(error, DeploymentError) else f"{type(error).__name__}: {error}"
            state.rejected = {"generation": generation, "reason": reason}
            _log.error("traffic_rejected", generation=generation, reason=reason)
            continue
        state.rejected = None
        engine.take_over(live)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:  # not there, or not to be had: whoever reads it says which
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def configure_logging() -> None:
    """Structured JSON lines on standard error; no request is logged."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"level":"%(levelname)s","event":"%(name)s"}')
