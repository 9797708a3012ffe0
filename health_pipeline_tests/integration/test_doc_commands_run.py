"""Every shell block of README and docs runs as written, in a copy of the checkout, on a small hospital.

Blocks run in the order of the pages; a page is one session: what a block exports is there for the next. Absolute
folders that pages use as examples (``/srv``, ``/backups``, ``/data``) lie below the test's own folder. Which blocks are
not run, and why, stands in the pages (``health_pipeline_tests/doc_blocks.py``) and is shown as skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from health_pipeline_tests.doc_blocks import PAGES, ROOT, SHELL, Block, blocks_of, prose_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("doc_commands")]
# What makes the hospital of the pages small enough for a test; months, windows and paths are those of the pages.
SMALL = {
    "HEALTH_PIPELINE_AUTOMATION": "false",
    "HEALTH_PIPELINE_SIMULATOR__ADMISSIONS_PER_MONTH": "300",
    "HEALTH_PIPELINE_TRAINING": json.dumps(
        {"samples": 0, "max_rounds": 40, "bags": 1, "replicates": 100, "min_rows": 200, "min_events": 10}
    ),
    "HEALTH_PIPELINE_PROMOTION": json.dumps({"min_samples": 300, "min_events": 20, "bootstrap_replicates": 100}),
    "HEALTH_PIPELINE_DEPLOYMENT": json.dumps(
        {"canary_seconds": 0.3, "health_seconds": 1, "health_interval_seconds": 0.02}
    ),
}
EXAMPLE_FOLDERS = re.compile(r"(?<![\w.~/-])/(srv|backups|data)/")
SOME_RELEASE = "xgb-202403-1a2b3c4d5e"
READING = ("status", "decisions", "doctor", "quarantine list", "restated list")
BLOCK_SECONDS = 1200
RUN = [
    block
    for page in PAGES
    for block in blocks_of(page)
    if block.language in SHELL or (block.language == "python" and block.marked)
]


class Desk:
    """A newcomer's checkout, and the shell they type into."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.disk = folder / "checkout", folder / "disk"
        _copy_checkout(self.checkout)
        self.session: dict[str, str] = {}
        self.page: Path | None = None
        self.releases: list[str] = []
        binaries = self.checkout / ".venv" / "bin"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("HEALTH_PIPELINE", "DAGSTER"))
        }
        self.environment = {
            **inherited,
            **SMALL,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.checkout),
        }
        for name in ("srv", "backups", "data"):
            (self.disk / name).mkdir(parents=True)

    def turn_to(self, page: Path) -> None:
        """A page is a new terminal."""
        if page != self.page:
            self.page, self.session = page, dict(self.environment)

    def place(self, text: str) -> str:
        """The text with its example folders below the test's own, and with a release that exists."""
        text = EXAMPLE_FOLDERS.sub(rf"{self.disk}/\1/", text)
        return text.replace(SOME_RELEASE, self.releases[-1]) if self.releases else text

    def type(self, commands: str, environment: dict[str, str] | None = None) -> str:
        """Type commands as one block; returns what they print. The session keeps what they export."""
        kept = self.checkout.parent / "environment"
        script = f"set -euo pipefail\n{self.place(commands)}\nenv -0 >{kept}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.checkout,
            env=environment or self.session,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}"
        if environment is None:
            self.session = dict(item.split("=", 1) for item in kept.read_text().split("\0") if "=" in item)
        return done.stdout

    def serve(self, commands: str, url: str) -> None:
        """Type a block that ends in a server; ask it, then press Ctrl-C."""
        address = urlsplit(url)
        with socket.socket() as probe:
            if probe.connect_ex((address.hostname, address.port)) == 0:
                pytest.skip(f"port {address.port} is taken on this machine")
        *before, server = [line for line in commands.splitlines() if line.strip()]
        if before:
            self.type("\n".join(before))
        log = self.checkout.parent / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", self.place(server)],
                cwd=self.checkout,
                env=self.session,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + 180
            while not _answers(url):
                assert process.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                time.sleep(1)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise

    def deploy(self) -> None:
        """Put two releases into traffic, one after the other."""
        if self.releases:
            return
        made = json.loads(_json(self.type("health-pipeline decisions --json", dict(self.environment))))
        promoting = [each for each in made if each["decision"] in {"INITIAL", "DEPLOY", "DEPLOY_REFRESH"}]
        assert len(promoting) >= 2, [each["decision"] for each in made]
        for each in promoting[:2]:
            month = each["month"][:7]
            self.type(
                f"health-pipeline run --select group:deployment --from {month} --to {month}", dict(self.environment)
            )
            self.releases.append(each["model_id"])

    def close(self) -> None:
        """End the API that deployments started."""
        for lock in self.checkout.parent.rglob("supervisor.lock"):
            if lock.read_text().strip().isdigit():
                try:
                    os.kill(int(lock.read_text()), signal.SIGTERM)
                except ProcessLookupError:
                    continue


def _copy_checkout(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    # The environment of this very interpreter, as `make install` would have left it.
    environment = target / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".installed").touch()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _json(output: str) -> str:
    return output[output.index("[") :]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    if not (ROOT / ".git").exists() or sys.prefix == sys.base_prefix:
        pytest.skip("needs a git checkout and a virtual environment")
    opened = Desk(tmp_path_factory.mktemp("desk"))
    # What a hospital brings along: its extracts, and files of other systems under the names the pages use.
    own = {**opened.environment, "HEALTH_PIPELINE_HOME": str(opened.disk / "srv" / "readmissions")}
    opened.type("health-pipeline simulate --from 2023-01 --to 2025-06", own | {"HEALTH_PIPELINE_END_MONTH": "2025-06"})
    samples = ROOT / "health_pipeline" / "sources" / "adapters"
    shutil.copytree(samples / "synthea" / "golden" / "input", opened.disk / "data" / "synthea" / "csv")
    shutil.copytree(samples / "synthea" / "golden" / "input", opened.checkout / "path" / "to" / "csv")
    for adapter, archive in (("uci", "dataset_diabetes.zip"), ("omop", "cdm.zip")):
        with zipfile.ZipFile(opened.checkout / archive, "w") as packed:
            for file in (samples / adapter / "golden" / "input").iterdir():
                packed.write(file, file.name)
    yield opened
    opened.close()


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_the_block_runs_as_written(block: Block, desk: Desk, tmp_path: Path):
    kind, _, rest = block.marker.partition(" ")
    if kind == "no,":
        pytest.skip(rest)
    desk.turn_to(block.page)
    if kind == "fresh":
        desk.session["HEALTH_PIPELINE_HOME"] = str(tmp_path / "home")
    if kind == "deployed":
        desk.deploy()
    if block.language == "python":
        (desk.checkout / "block.py").write_text(desk.place(block.content))
        desk.type("python block.py")
    elif kind == "serve":
        desk.serve(block.content, rest)
    else:
        desk.type(block.content)


def test_commands_in_sentences_that_only_read_run_too(desk: Desk):
    shown = {code for page in PAGES for code in re.findall(r"`health-pipeline ([^`\n]+)`", prose_of(page.read_text()))}
    reading = sorted(code for code in shown if code.startswith(READING) and not re.search(r"[A-Z<\[|]", code))
    assert len(reading) >= 4
    for code in reading:
        desk.type(f"health-pipeline {code}", dict(desk.environment))
    assert "make demo" in desk.type("make help", dict(desk.environment))
