"""Growth: cost of the backfill as months and admissions grow, with a fitted exponent and a plot.

``python -m benchmarks.warehouse.growth --admissions 10000 100000 1000000 --months 12 36 120``
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.warehouse.landing import Scale, landing_of
from benchmarks.warehouse.measure import RESULTS, run_json, save, scratch, verdict

Cost = Mapping[tuple[int, int], Mapping[str, Any]]
Points = list[tuple[float, float]]


def exponent(points: Points) -> float:
    """Least-squares slope of log cost over log size."""
    xs, ys = ([math.log(point[axis]) for point in points] for axis in (0, 1))
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


def grid_of(admissions: list[int], months: list[int]) -> list[tuple[int, int]]:
    """Every size with the most months, and every number of months with the most stays a month."""
    most, longest = admissions[-1], months[-1]
    return sorted({(size, longest) for size in admissions} | {(most * m // longest, m) for m in months})


def main() -> None:
    """Run every combination once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--admissions", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--months", type=int, nargs="+", default=[4, 12, 36])
    parser.add_argument("--plot", type=Path, default=RESULTS / "warehouse_growth.svg")
    parser.add_argument("--work", type=Path, help="keep the data here for the next time")
    chosen = parser.parse_args()
    cost = {}
    for admissions, months in grid_of(chosen.admissions, chosen.months):
        scale = Scale(admissions, months)
        with scratch(chosen.work) as folder:
            shutil.rmtree(folder / "growth", ignore_errors=True)
            way = ("manager", folder / "growth", landing_of(folder, scale), admissions, months, 0)
            cost[admissions, months] = run_json("benchmarks.warehouse.ways", *way)
        print(f"  {admissions} admissions, {months} months: {cost[admissions, months]['cpu']:.1f} s CPU", flush=True)
    report(vars(chosen), chosen.admissions, chosen.months, cost, chosen.plot)


def report(scale: dict[str, Any], admissions: list[int], months: list[int], cost: Cost, plot: Path) -> None:
    """Fit, print, draw and save.

    Args:
        scale: what was asked for.
        admissions: sizes with the most months.
        months: lengths with the most stays a month.
        cost: what each point of the grid measured.
        plot: where the figure goes.
    """
    most, longest = admissions[-1], months[-1]
    by_size = [(size, cost[size, longest]["cpu"]) for size in admissions]
    by_months = [(count, cost[most * count // longest, count]["cpu"]) for count in months]
    fits = {"admissions, months fixed": by_size, "months, stays a month fixed": by_months}
    results = [verdict(f"exponent of CPU over {name}", exponent(points), 1.1, unit="") for name, points in fits.items()]
    # Fixed costs flatten the fit at its small end; the last step alone shows what more work costs.
    for name, points in fits.items():
        results.append(verdict(f"the same over {name}, last step", exponent(points[-2:]), 1.1, unit=""))
    _draw(
        plot,
        (f"admissions in {longest} months", by_size),
        (f"months of {most // longest:,} admissions", by_months),
    )
    save(
        "warehouse_growth", scale, results, cost=[{"admissions": a, "months": m, **run} for (a, m), run in cost.items()]
    )


def _log_axis(values: list[float]) -> dict[str, Any]:
    """An axis with room for the labels of the outermost points."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.12 * (high - low)
    return {"type": "log", "range": [low - room, high + room]}


def _draw(plot: Path, *panels: tuple[str, Points]) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{title}: exponent {exponent(points):.2f}" for title, points in panels]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
    for column, (title, points) in enumerate(panels, start=1):
        sizes, seconds = ([point[axis] for point in points] for axis in (0, 1))
        labels = [f"{value:.1f} s" for value in seconds]
        line = go.Scatter(x=sizes, y=seconds, text=labels, mode="lines+markers+text", textposition="top center")
        figure.add_trace(line, 1, column)
        figure.update_xaxes(_log_axis(sizes), title=title, tickvals=sizes, row=1, col=column)
        figure.update_yaxes(_log_axis(seconds), title="CPU seconds", dtick=1, row=1, col=column)
    margin = {"l": 60, "r": 20, "t": 40, "b": 50}
    figure.update_layout(showlegend=False, width=900, height=360, template="plotly_white", margin=margin)
    figure.update_traces(line_color="#1f5fa8")
    plot.parent.mkdir(parents=True, exist_ok=True)
    figure.write_image(plot)


if __name__ == "__main__":
    main()
