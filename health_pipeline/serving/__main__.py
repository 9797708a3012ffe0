"""``python -m health_pipeline.serving``: the API of an environment, supervised; or one release folder, bare."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from health_pipeline.errors import PipelineError
from health_pipeline.serving.places import Places, bind
from health_pipeline.serving.supervisor import python_command, supervise
from health_pipeline.settings import load_settings

if TYPE_CHECKING:
    from health_pipeline.serving.process import LoadScorer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m health_pipeline.serving", description=__doc__)
    parser.add_argument("--environment", default="production", help="whose traffic manifest is followed")
    parser.add_argument("--release", type=Path, help="serve just this release folder (containers, trials)")
    parser.add_argument("--port", type=int, help="instead of HEALTH_PIPELINE_SERVING__PORT; 0 takes a free one")
    parser.add_argument("--daemon", action="store_true", help="go to the background once the address is bound")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser


def _detach(log: Path) -> None:
    """A session of its own, and output into the log: whoever started it may close their terminal."""
    os.setsid()
    log.parent.mkdir(parents=True, exist_ok=True)
    with Path(os.devnull).open("rb") as nothing, log.open("ab") as output:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)


def main(
    arguments: Sequence[str] | None = None,
    command: Sequence[str] | None = None,
    load: LoadScorer | None = None,
) -> int:
    """Serve until a signal.

    Args:
        arguments: command line.
        command: how to start this very program again as a worker.
        load: builds scorers, instead of those of the bundles.

    Returns:
        Exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        places = Places.of(settings.home, options.environment)
        if options.fd is not None:
            sock = socket.socket(fileno=options.fd)
        else:
            sock = bind(settings.serving.host, settings.serving.port if options.port is None else options.port)
        if options.worker or options.release is not None:
            # The supervisor stays small: only the worker imports numpy, ONNX Runtime and FastAPI.
            from health_pipeline.serving.process import run_worker
            from health_pipeline.serving.scorers import load_scorer

            release = options.release.resolve() if options.release is not None else None
            run_worker(settings, places, sock, release=release, parent=options.parent, load=load or load_scorer)
        else:
            if options.daemon and os.fork() != 0:
                os._exit(0)  # the address is bound; the caller waits for readiness
            if options.daemon:
                _detach(places.output)
            supervise([*(command or python_command()), "--environment", options.environment], places, sock)
    except PipelineError as error:
        print(error, file=sys.stderr)  # noqa: T201  (before and after logging)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
