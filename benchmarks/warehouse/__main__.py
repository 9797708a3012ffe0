"""All benchmarks of the warehouse, one after the other: ``python -m benchmarks.warehouse [--full]``.

``--full`` takes the sizes of the figures in ``docs/warehouse.md`` (1,000,000 admissions in 120 months; about an hour
on two cores); without it the same is measured on a tenth in ten minutes.
"""

from __future__ import annotations

import subprocess
import sys

FULL = {
    "contention": "--rounds 5",
    "tick": "",
    "backfill": "--admissions 1000000 --months 120",
    "growth": "--admissions 10000 100000 1000000 --months 12 36 120 --plot docs/images/warehouse-growth.svg",
}

for name, size in FULL.items():
    print(f"# {name}", flush=True)
    arguments = size.split() if "--full" in sys.argv[1:] else []
    subprocess.run([sys.executable, "-m", f"benchmarks.warehouse.{name}", *arguments], check=True)
