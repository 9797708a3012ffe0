"""``make bench``: every benchmark package, one after the other; results in ``benchmarks/results/*.json``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for package in sorted(path.parent.name for path in Path(__file__).parent.glob("*/__main__.py")):
    subprocess.run([sys.executable, "-m", f"benchmarks.{package}"], check=True)
