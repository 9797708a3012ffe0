"""Figures of drift and of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring.chart_style import BLUE, GREY, ORANGE, SKY, VERMILLION, styled
from health_pipeline.privacy import shown_count

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from health_pipeline.monitoring.decisions import Decision

Rows = Sequence[dict[str, Any]]
Cell = tuple[str, Any]
"""Subject and month."""
SHOWN_FEATURES = 30
_STATUS_MARKS = {"ok": "", "warning": "!", "alarm": "✖", "no_data": "?"}
_GRADES = {"warning": 1, "alarm": 2}
_STATUS_RANK = {"ok": 0, "no_data": 1, "warning": 2, "alarm": 3}
DECISION_LOOK = {
    "INITIAL": (BLUE, "star"),
    "DEPLOY": (SKY, "circle"),
    "DEPLOY_REFRESH": (ORANGE, "square"),
    "SKIP": (GREY, "circle-open"),
}


def drift_heat_map(rows: Rows) -> go.Figure:
    """PSI over its warning limit, by feature and month; marks tell the worst status of the feature in the month."""
    import plotly.graph_objects as go

    mine = [
        row
        for row in rows
        if row["subject_kind"] in {"feature", "score", "prediction"} and row["reference"] != "same_season"
    ]
    months = sorted({row["month"] for row in mine})
    ratio = {
        (row["subject"], row["month"]): row["value"] / row["threshold"]
        for row in mine
        if row["metric"] == "psi" and row["value"] is not None and row["threshold"]
    }
    status: dict[Cell, str] = {}
    for row in mine:
        cell = row["subject"], row["month"]
        status[cell] = max(status.get(cell, "ok"), row["status"], key=_STATUS_RANK.__getitem__)
    shown = _most_noteworthy(ratio, status, months)
    figure = go.Figure(
        go.Heatmap(
            x=[f"{month:%Y-%m}" for month in months],
            y=shown,
            z=[[ratio.get((subject, month)) for month in months] for subject in shown],
            text=[[_STATUS_MARKS[status.get((subject, month), "no_data")] for month in months] for subject in shown],
            texttemplate="%{text}",
            colorscale="Cividis",
            zmin=0,
            zmax=2,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "PSI /<br>limit"}, "thickness": 12, "len": 0.8},
            hovertemplate="%{y}, %{x}: %{z:.2f} times the limit<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(type="category", title=None, tickfont={"size": 11})
    return styled(figure, 140 + 20 * max(len(shown), 8))


def _most_noteworthy(ratio: Mapping[Cell, float], status: Mapping[Cell, str], months: Sequence[Any]) -> list[str]:
    """Subjects by what the newest month says of them, then any month, then how far they moved; the first one last."""
    peak: dict[str, float] = {}
    worst: dict[str, int] = {}
    newest: dict[str, int] = {}
    for (subject, _), value in ratio.items():
        peak[subject] = max(value, peak.get(subject, 0.0))
    for (subject, month), found in status.items():
        grade = _GRADES.get(found, 0)  # of any number: missing values alarm without a PSI
        worst[subject] = max(grade, worst.get(subject, 0))
        newest[subject] = grade if month == months[-1] else newest.get(subject, 0)
    named = [subject for subject in worst if subject in peak or worst[subject]]
    named.sort(key=lambda subject: (-newest[subject], -worst[subject], -peak.get(subject, 0.0), subject))
    return named[:SHOWN_FEATURES][::-1]


def decision_timeline(decisions: Sequence[Decision]) -> go.Figure:
    """Which model was in force, and what was decided each month; a criterion that failed is told on hover."""
    import plotly.graph_objects as go

    figure = go.Figure()
    models = list(dict.fromkeys(item.model_id or "none" for item in decisions))
    figure.add_trace(
        go.Scatter(
            x=[item.month for item in decisions],
            y=[item.model_id or "none" for item in decisions],
            mode="lines",
            line={"shape": "hv", "color": GREY, "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for name, (colour, symbol) in DECISION_LOOK.items():
        chosen = [item for item in decisions if item.decision == name]
        if chosen:
            figure.add_trace(
                go.Scatter(
                    x=[item.month for item in chosen],
                    y=[item.model_id or "none" for item in chosen],
                    mode="markers",
                    name=name,
                    marker={"color": colour, "symbol": symbol, "size": 12, "line": {"width": 1.5, "color": colour}},
                    customdata=[", ".join(item.failed) or "nothing" for item in chosen],
                    hovertemplate="%{x|%Y-%m} " + name + "<br>%{y}<br>failed: %{customdata}<extra></extra>",
                )
            )
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=models, title=None, tickfont={"size": 11})
    return styled(figure, 150 + 34 * max(len(models), 3))


def volume_chart(rows: Rows, small_number: int) -> go.Figure:
    """Discharges of each month; months beyond the limit carry another marker, small ones stand at ``small_number``."""
    import plotly.graph_objects as go

    mine = [row for row in rows if row["subject_kind"] == "volume"]
    figure = go.Figure()
    for name, colour, symbol in (("usual", BLUE, "circle"), ("unusual", VERMILLION, "x")):
        chosen = [row for row in mine if (row["status"] in {"warning", "alarm"}) == (name == "unusual")]
        if chosen:
            figure.add_trace(
                go.Scatter(
                    x=[row["month"] for row in chosen],
                    y=[row["n"] and max(row["n"], small_number) for row in chosen],
                    name=name,
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                    customdata=[shown_count(row["n"], small_number) for row in chosen],
                    hovertemplate="%{x|%Y-%m}: %{customdata} discharges<extra></extra>",
                )
            )
    figure.update_yaxes(title="discharges", rangemode="tozero")
    return styled(figure, 320)
