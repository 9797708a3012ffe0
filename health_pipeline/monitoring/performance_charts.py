"""Figures of performance: trajectories, estimate against outcome, calibration, subgroups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring.chart_style import (
    BLUE,
    GREY,
    METRIC_TITLES,
    ORANGE,
    ROLE_COLOURS,
    ROLE_DASHES,
    ROLE_SYMBOLS,
    STATUS_COLOURS,
    STATUS_SYMBOLS,
    faded,
    styled,
)
from health_pipeline.monitoring.limits import both_sides
from health_pipeline.months import shift

if TYPE_CHECKING:
    import plotly.graph_objects as go

Rows = Sequence[dict[str, Any]]
TRAJECTORIES = ("roc_auc", "average_precision", "brier", "observed_expected", "calibration_slope", "recall")


def trajectories(rows: Rows, window: int) -> go.Figure:
    """Realised measures by month with intervals and warning limits, one panel per measure.

    Args:
        rows: of ``monitoring.performance``.
        window: months pooled.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = 2
    figure = make_subplots(
        rows=math.ceil(len(TRAJECTORIES) / columns),
        cols=columns,
        subplot_titles=[METRIC_TITLES[metric] for metric in TRAJECTORIES],
        shared_xaxes=True,
        vertical_spacing=0.09,
        horizontal_spacing=0.11,
    )
    pooled = [row for row in rows if row["kind"] == "realised" and row["window_months"] == window and is_known(row)]
    for index, metric in enumerate(TRAJECTORIES):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for role in ROLE_COLOURS:
            mine = [row for row in pooled if row["metric"] == metric and row["model_role"] == role]
            if role == "champion":
                _band(figure, mine, ROLE_COLOURS[role], place)
                _limit(figure, mine, place, show=index == 0)
            for part, stretch in enumerate(_stretches(mine)):
                figure.add_trace(
                    go.Scatter(
                        x=[row["month"] for row in stretch],
                        y=[row["value"] for row in stretch],
                        name=role,
                        legendgroup=role,
                        showlegend=index == 0 and part == 0,
                        mode="lines+markers",
                        line={
                            "color": ROLE_COLOURS[role],
                            "dash": ROLE_DASHES[role],
                            "width": 2 if role == "champion" else 1.2,
                        },
                        marker={"symbol": ROLE_SYMBOLS[role], "size": 7 if role == "champion" else 5},
                        customdata=[[row["n"], row["ci_low"], row["ci_high"], row["status"]] for row in stretch],
                        hovertemplate="%{x|%Y-%m}: %{y:.3f} [%{customdata[1]:.3f}, %{customdata[2]:.3f}], "
                        "n %{customdata[0]}, %{customdata[3]}",
                    ),
                    **place,
                )
    figure.update_layout(meta={"panels": len(TRAJECTORIES)})  # the page stacks them on a phone
    return styled(figure, 820)


def estimated_and_realised(rows: Rows, metric: str = "roc_auc") -> go.Figure:
    """The champion's estimate of each month and what happened, both with intervals."""
    import plotly.graph_objects as go

    figure = go.Figure()
    mine = [
        row
        for row in rows
        if row["model_role"] == "champion" and row["metric"] == metric and row["window_months"] == 1 and is_known(row)
    ]
    for kind, colour, symbol in (("estimated", ORANGE, "diamond-open"), ("realised", BLUE, "circle")):
        chosen = [row for row in mine if row["kind"] == kind and row["segment"] == "all"]
        for part, stretch in enumerate(_stretches(chosen)):
            figure.add_trace(_points_with_error(stretch, kind, colour, symbol, show=part == 0))
    _limit(figure, mine, {}, show=True)
    figure.update_yaxes(title=METRIC_TITLES[metric])
    return styled(figure)


def calibration(bins: Rows) -> go.Figure:
    """Observed against predicted rate in tenths of risk.

    Args:
        bins: ``predicted``, ``observed``, ``ci_low``, ``ci_high``, ``n`` of each tenth; small ones are left out.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    top = max([0.1, *(row["ci_high"] for row in bins), *(row["predicted"] for row in bins)]) * 1.05
    figure.add_trace(
        go.Scatter(
            x=[0, top], y=[0, top], mode="lines", name="perfect", line={"color": GREY, "dash": "dash"}, hoverinfo="skip"
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[row["predicted"] for row in bins],
            y=[row["observed"] for row in bins],
            name="champion",
            mode="lines+markers",
            line={"color": BLUE},
            marker={"size": 8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["ci_high"] - row["observed"] for row in bins],
                "arrayminus": [row["observed"] - row["ci_low"] for row in bins],
                "color": BLUE,
            },
            customdata=[row["n"] for row in bins],
            hovertemplate="predicted %{x:.3f}, observed %{y:.3f}, n %{customdata}<extra></extra>",
        )
    )
    figure.update_xaxes(title="predicted probability", range=[0, top])
    figure.update_yaxes(title="observed rate", range=[0, top])
    return styled(figure, 460)


def subgroups(rows: Rows, window: int, metric: str = "roc_auc") -> go.Figure:
    """Forest plot of the champion in each group of patients; suppressed groups are named as such.

    Args:
        rows: of one month.
        window: months pooled.
        metric: measure on the horizontal axis.
    """
    import plotly.graph_objects as go

    mine = [
        row
        for row in rows
        if row["model_role"] == "champion"
        and row["kind"] == "realised"
        and row["window_months"] == window
        and row["metric"] == metric
    ]
    mine.sort(key=lambda row: (row["segment"] != "all", row["segment"]), reverse=True)
    figure = go.Figure()
    for status in STATUS_COLOURS:
        chosen = [row for row in mine if row["status"] == status and is_known(row)]
        if not chosen:
            continue
        figure.add_trace(
            go.Scatter(
                x=[row["value"] for row in chosen],
                y=[_segment_name(row) for row in chosen],
                name=status,
                mode="markers",
                marker={"color": STATUS_COLOURS[status], "symbol": STATUS_SYMBOLS[status], "size": 10},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [row["ci_high"] - row["value"] for row in chosen],
                    "arrayminus": [row["value"] - row["ci_low"] for row in chosen],
                    "color": STATUS_COLOURS[status],
                },
                hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            )
        )
    overall = next((row for row in mine if row["segment"] == "all" and is_known(row)), None)
    if overall is not None:
        figure.add_vline(x=overall["value"], line={"color": GREY, "dash": "dash"})
    figure.update_yaxes(categoryorder="array", categoryarray=[_segment_name(row) for row in mine], title=None)
    figure.update_xaxes(title=METRIC_TITLES[metric])
    return styled(figure, 140 + 24 * max(len(mine), 6))


def _segment_name(row: dict[str, Any]) -> str:
    count = "suppressed" if row["n"] is None else f"n {row['n']}"
    return f"{row['segment'].replace('=', ' ')} ({count})"


def _stretches(rows: Rows) -> list[list[dict[str, Any]]]:
    """Months that follow one another: a line across a month without a number would invent one."""
    found: list[list[dict[str, Any]]] = []
    for row in rows:
        if found and row["month"] == shift(found[-1][-1]["month"], 1):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _points_with_error(rows: Rows, name: str, colour: str, symbol: str, *, show: bool) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[row["month"] for row in rows],
        y=[row["value"] for row in rows],
        name=name,
        legendgroup=name,
        showlegend=show,
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"symbol": symbol, "size": 9},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [row["ci_high"] - row["value"] for row in rows],
            "arrayminus": [row["value"] - row["ci_low"] for row in rows],
            "color": faded(colour, 0.6),
            "width": 3,
        },
        hovertemplate="%{x|%Y-%m}: %{y:.3f}",
    )


def _band(figure: go.Figure, rows: Rows, colour: str, place: dict[str, int]) -> None:
    import plotly.graph_objects as go

    for stretch in _stretches(rows):
        months = [row["month"] for row in stretch]
        figure.add_trace(
            go.Scatter(
                x=[*months, *reversed(months)],
                y=[*(row["ci_high"] for row in stretch), *reversed([row["ci_low"] for row in stretch])],
                mode="lines",  # fewer than twenty points would get markers, that look like months
                fill="toself",
                fillcolor=faded(colour),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            ),
            **place,
        )


def _limit(figure: go.Figure, rows: Rows, place: dict[str, int], *, show: bool) -> None:
    import plotly.graph_objects as go

    limited = [row for row in rows if row["threshold"] is not None and row["kind"] == "realised"]
    for part, stretch in enumerate(_stretches(limited)):
        sides = zip(*(sorted(both_sides(row["metric"], row["threshold"])) for row in stretch), strict=True)
        for side, limits in enumerate(sides):
            figure.add_trace(
                go.Scatter(
                    x=[row["month"] for row in stretch],
                    y=list(limits),
                    mode="lines",
                    name="warning limit",
                    legendgroup="limit",
                    showlegend=show and part == side == 0,
                    line={"color": GREY, "dash": "dash", "width": 1.2, "shape": "hvh"},
                    hovertemplate="limit %{y:.3f}<extra></extra>",
                ),
                **place,
            )


def is_known(row: dict[str, Any]) -> bool:
    """Whether there is a number with its interval."""
    return all(row[name] is not None for name in ("value", "ci_low", "ci_high"))
