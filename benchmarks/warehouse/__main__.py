"""All benchmarks of the warehouse at their full size, one after the other."""

from __future__ import annotations

import subprocess
import sys

for name in ("contention", "tick", "backfill", "growth"):
    print(f"# {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.warehouse.{name}"], check=True)
