"""``make bench``: the benchmarks with targets that need nothing but this checkout, then one table of their results.

``python -m benchmarks [--full]``. Results lie in ``benchmarks/results/*.json``; exit status 1 when a target was missed.
The other benchmarks want data, hours or servers; each module says how it is called.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.warehouse.measure import RESULTS, line

PACKAGES = ("warehouse",)


def main() -> int:
    """Run the packages, print the table; whether all targets were met."""
    begun = time.time()
    for package in PACKAGES:
        subprocess.run([sys.executable, "-m", f"benchmarks.{package}", *sys.argv[1:]], check=True)
    fresh = [path for package in PACKAGES for path in sorted(RESULTS.glob(f"{package}_*.json"))]
    saved = [json.loads(path.read_text()) for path in fresh if path.stat().st_mtime >= begun]
    print(f"\n# all results (saved in {RESULTS.parent.name}/{RESULTS.name})")
    for one in saved:
        print(f"{one['benchmark']}: {one['machine']['cores']} cores, load average {one['load_average']['before']:.1f}")
        for found in one["results"]:
            print(f"  {line(found)}")
    return not all(found["met"] for one in saved for found in one["results"])


if __name__ == "__main__":
    sys.exit(main())
