"""Takes the pictures in ``docs/images`` from a finished demo, in a real browser.

    .venv/bin/uv pip install playwright && apt-get install chromium
    .venv/bin/python docs/screenshots.py <home of a finished demo> [--out docs/images]

The dashboard of the newest month in light, dark and at phone width; the asset graph, checks and partitions of the
Dagster UI, served from a copy of the home with all automation off. Every picture stays below 300 KB.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

LARGEST_BYTES = 300_000
START_SECONDS = 180
LAPTOP = {"width": 1360, "height": 850}
WIDE = {"width": 1900, "height": 900}
PHONE = {"width": 390, "height": 844}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--only", choices=["dashboard", "dagster"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    newest = sorted((arguments.home / "outputs" / "visuals").glob("*/dashboard.html"))[-1].resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        if arguments.only != "dagster":
            dashboard(browser, newest, arguments.out)
        if arguments.only != "dashboard":
            with tempfile.TemporaryDirectory() as scratch, served(arguments.home, Path(scratch)) as url:
                dagster_ui(browser, url, newest.parent.name, arguments.out)
        browser.close()


def dashboard(browser: Browser, page_file: Path, out: Path) -> None:
    """The newest month's page: as a laptop shows it, in the dark, and on a phone."""
    for name, scheme, size in (
        ("dashboard", "light", LAPTOP),
        ("dashboard-dark", "dark", LAPTOP),
        ("dashboard-phone", "light", PHONE),
    ):
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(page_file.as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
        page.wait_for_timeout(1500)
        save(page, out / f"{name}.png")
        page.close()


def dagster_ui(browser: Browser, url: str, month: str, out: Path) -> None:
    """Asset graph, checks and partitions (one month of them picked) of the Dagster UI."""
    page = browser.new_page(viewport=LAPTOP, color_scheme="light")
    open_page(page, f"{url}/asset-groups", "monitoring")
    page.get_by_text("Hide navigation").click()
    page.set_viewport_size(WIDE)
    page.get_by_placeholder("Jump to").locator("xpath=following::button[1]").click()  # folds the list of groups away
    page.keyboard.press("Alt+e")  # expands all groups
    page.wait_for_timeout(15_000)  # the layout of the graph and the health of assets arrive one by one
    save(page, out / "dagster-assets.png")
    page.set_viewport_size(LAPTOP)
    open_page(page, f"{url}/assets/models/champion?view=checks&checkDetail=improvement", "Latest execution")
    save(page, out / "dagster-checks.png")
    open_page(page, f"{url}/assets/monitoring/performance?view=partitions&partition={month}-01", "content_hash")
    save(page, out / "dagster-partitions.png")
    page.close()


def open_page(page: Page, url: str, seen: str) -> None:
    """Go there and wait until it shows what it is about."""
    page.goto(url, timeout=120_000)
    page.get_by_text(seen).first.wait_for(timeout=180_000)
    page.wait_for_timeout(6_000)


def save(page: Page, target: Path) -> None:
    """A palette keeps text sharp at a third of the size."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64):
        buffer = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST_BYTES:
            break
    else:
        raise SystemExit(f"{target} would be larger than {LARGEST_BYTES:,} bytes")
    target.write_bytes(buffer.getvalue())
    print(f"{target}  {buffer.tell():,} bytes")  # noqa: T201


@contextmanager
def served(home: Path, scratch: Path) -> Iterator[str]:
    """The UI over a copy of the home, so that looking changes nothing."""
    copy = scratch / "home"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("landing", "mlartifacts"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    environment |= {"HEALTH_PIPELINE_HOME": str(copy), "HEALTH_PIPELINE_AUTOMATION": "false"}
    with (scratch / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "health_pipeline", "up", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait(f"http://127.0.0.1:{port}/server_info", process, scratch / "up.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the UI answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the UI did not start:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(1)
    raise SystemExit(f"the UI did not come up within {START_SECONDS} s")


if __name__ == "__main__":
    main()
