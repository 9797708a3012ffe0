"""``make bench``: the benchmarks that need nothing but this checkout, then one table of all results.

``python -m benchmarks [--full]``. Results lie in ``benchmarks/results/*.json``. Exit status 1 when a target was missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.warehouse.measure import RESULTS, line


def main() -> int:
    """Run every benchmark package, print the table; whether all targets were met."""
    begun = time.time()
    for package in sorted(path.parent.name for path in Path(__file__).parent.glob("*/__main__.py")):
        subprocess.run([sys.executable, "-m", f"benchmarks.{package}", *sys.argv[1:]], check=True)
    fresh = [path for path in sorted(RESULTS.glob("*.json")) if path.stat().st_mtime >= begun]
    saved = [json.loads(path.read_text()) for path in fresh]
    print(f"\n# all results (saved in {RESULTS.parent.name}/{RESULTS.name})")
    for one in saved:
        print(f"{one['benchmark']}: {one['machine']['cores']} cores, load average {one['load_average']['before']:.1f}")
        for found in one["results"]:
            print(f"  {line(found)}")
    return not all(found["met"] for one in saved for found in one["results"])


if __name__ == "__main__":
    sys.exit(main())
