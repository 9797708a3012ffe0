"""The home of the soak: a light hospital, its extracts waiting outside, and services as a service manager runs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.months import Month, MonthRange, parse_month, shift
from health_pipeline.settings import Settings, load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline_tests.integration.dagster_services import free_port

START_SECONDS = 180
SETTINGS = """\
start_month = "2020-01"
end_month = "{end}"
[simulator]
admissions_per_month = {admissions}
seed = {seed}
[windows]
training_months = 6
min_training_months = 3
validation_months = 1
holdout_months = 2
[training]
samples = 0
max_rounds = 60
replicates = 100
min_rows = 200
min_events = 10
threads = 1
[promotion]
min_samples = 500
bootstrap_replicates = 200
[monitoring]
png = "off"
evidently = "off"
[privacy]
pseudonym_key = "{key}"
[deployment]
health_seconds = 10
canary_seconds = 2
"""
KEY = "the same key in both homes"
WARM_UP = 7


def settings_of(home: Path, months: int, *, admissions: int, seed: int, extra: str = "") -> Settings:
    """Settings of a home with ``months`` model months; they are written into it, where the services find them."""
    end = shift(parse_month("2020-01"), WARM_UP + months - 1)
    home.mkdir(parents=True, exist_ok=True)
    text = SETTINGS.format(end=f"{end:%Y-%m}", admissions=admissions, seed=seed, key=KEY) + extra
    (home / "settings.toml").write_text(text)
    return load_settings(home=home, **tomllib.loads(text))


def deliver(source: Settings, target: Settings, months: MonthRange) -> None:
    """Copy extracts into the landing zone; each file appears whole, under its name."""
    for table in LANDING_TABLES:
        for month in months:
            put(source.home / "landing" / table / f"{month:%Y-%m}.parquet", target)


def put(extract: Path, target: Settings, *, share: float = 1.0) -> None:
    """One file; with ``share`` below one a transfer that broke off."""
    folder = target.home / "landing" / extract.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{extract.name}.part"
    content = extract.read_bytes()
    draft.write_bytes(content[: int(len(content) * share)])
    draft.rename(folder / extract.name)


def make_extracts(settings: Settings) -> None:
    """All months of the hospital, in a place the pipeline does not look at."""
    simulate(settings.months, settings)


def extract(settings: Settings, table: str, month: Month) -> Path:
    """A file of :func:`make_extracts`."""
    return settings.home / "landing" / table / f"{month:%Y-%m}.parquet"


class Services:
    """`health-pipeline up` and an MLflow server, started again when they end, as a service manager does.

    Attributes:
        settings: of the home.
        restarts: how often UI and daemon ended by themselves.
    """

    def __init__(self, settings: Settings, mlflow_port: int) -> None:
        self.settings, self._mlflow_port, self._port = settings, mlflow_port, free_port()
        self._up: subprocess.Popen[bytes] | None = None
        self._mlflow: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def start(self) -> None:
        """Start both and wait for the UI."""
        self.start_mlflow()
        if not self._start_up():
            raise RuntimeError(f"the services do not start; see {self._logs / 'services.log'}")

    def keep_alive(self) -> None:
        """Start again what has ended: UI and daemon, and the model store unless a fault keeps it away."""
        if self._mlflow is not None and self._mlflow.poll() is not None:
            self.start_mlflow()
        if self._up is not None and self._up.poll() is not None:
            self.restarts += 1
            self._start_up()

    @property
    def _logs(self) -> Path:
        return self.settings.home.parent.parent  # outside the small disk: they have to survive a full one

    def _start_up(self) -> bool:
        command = [sys.executable, "-m", "health_pipeline", "up", "--port", str(self._port)]
        self._up = self._spawn(command, "services.log", {"HEALTH_PIPELINE_HOME": str(self.settings.home)})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._up.poll() is None:
            if _answers(f"http://127.0.0.1:{self._port}/server_info"):
                return True
            time.sleep(1)
        return False

    def start_mlflow(self) -> None:
        """Start the model store's server and wait for it."""
        store = self.settings.home / "mlflow-server"
        store.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._mlflow_port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db"]
        command += ["--artifacts-destination", str(store / "artifacts")]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._mlflow = self._spawn(command, "mlflow.log", environment)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{self._mlflow_port}/health"):
            if time.monotonic() > deadline:
                raise TimeoutError("the MLflow server did not come up; see mlflow.log")
            time.sleep(1)

    def kill_mlflow(self) -> None:
        """The model store is gone, without a word, until somebody starts it."""
        process, self._mlflow = self._mlflow, None
        _end(process, signal.SIGKILL)

    def stop(self) -> None:
        """End both."""
        _end(self._up, signal.SIGTERM)
        _end(self._mlflow, signal.SIGKILL)

    def _spawn(self, command: list[str], log: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._logs / log).open("ab") as output:
            return subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes] | None, number: int) -> None:
    if process is None or process.poll() is not None:
        return
    os.killpg(process.pid, number)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class SmallDisk:
    """A file system of limited size (tmpfs, needs root); without root the fault of a full disk is left out."""

    def __init__(self, path: Path, mebibytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)]
        if path.is_mount():
            self.is_mounted = True
            return
        self.is_mounted = shutil.which("mount") is not None and subprocess.run(command, check=False).returncode == 0

    def fill(self) -> None:
        """Take all the space that is left."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 1_048_576)
            except OSError as error:
                if error.errno != 28:  # no space left on device: what was wanted
                    raise

    def clear(self) -> None:
        """Give the space back."""
        (self.path / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount."""
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
