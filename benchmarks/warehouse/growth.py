"""Growth: cost of the backfill as months and admissions grow, with a fitted exponent and a plot in ``docs/``.

``python -m benchmarks.warehouse.growth --admissions 10000 100000 1000000 --months 12 36 120``
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from benchmarks.warehouse.landing import Scale, write_landing
from benchmarks.warehouse.measure import run_json, save, scratch, verdict

PLOT = Path(__file__).parents[2] / "docs" / "images" / "warehouse-growth.svg"


def exponent(points: list[tuple[float, float]]) -> float:
    """Least-squares slope of log cost over log size."""
    xs, ys = ([math.log(point[axis]) for point in points] for axis in (0, 1))
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


def main() -> None:
    """Run every combination once; fit cost over admissions (fixed months) and over months (fixed admissions)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admissions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--months", type=int, nargs="+", default=[12, 36, 120])
    chosen = parser.parse_args()
    grid = {(size, chosen.months[-1]) for size in chosen.admissions}
    grid |= {(chosen.admissions[-1] * months // chosen.months[-1], months) for months in chosen.months}
    cost = {}
    for admissions, months in sorted(grid):
        scale = Scale(admissions, months)
        with scratch() as folder:
            write_landing(folder / "landing", scale)
            way = ("manager", folder / "home", folder / "landing", admissions, months, 0)
            cost[admissions, months] = run_json("benchmarks.warehouse.ways", *way)
        print(f"  {admissions} admissions, {months} months: {cost[admissions, months]['cpu']:.1f} s CPU", flush=True)
    by_size = [(size, cost[size, chosen.months[-1]]["cpu"]) for size in chosen.admissions]
    by_months = [
        (months, cost[chosen.admissions[-1] * months // chosen.months[-1], months]["cpu"]) for months in chosen.months
    ]
    results = {
        "exponent over admissions": verdict("exponent over admissions, months fixed", exponent(by_size), 1.1, unit=""),
        "exponent over months": verdict("exponent over months, stays a month fixed", exponent(by_months), 1.1, unit=""),
    }
    _plot(by_size, by_months)
    save(
        "warehouse_growth",
        {"results": results, "cost": [{"admissions": a, "months": m, **run} for (a, m), run in cost.items()]},
    )


def _plot(by_size: list[tuple[float, float]], by_months: list[tuple[float, float]]) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=("admissions (months fixed)", "months (stays a month fixed)"))
    for column, points in enumerate((by_size, by_months), start=1):
        figure.add_trace(
            go.Scatter(x=[p[0] for p in points], y=[p[1] for p in points], mode="lines+markers"), 1, column
        )
        figure.update_xaxes(type="log", row=1, col=column)
        figure.update_yaxes(type="log", title="CPU seconds", row=1, col=column)
    figure.update_layout(showlegend=False, width=900, height=360, title="Backfill bronze to gold: cost as work grows")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.write_image(PLOT)


if __name__ == "__main__":
    main()
