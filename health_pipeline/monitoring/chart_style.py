"""House style of the figures: one palette for people of any colour vision, legible on white and on black.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/); status is also told by the shape of the marker.
The dashboard recolours text, grid and background when the viewer prefers a dark page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
)
ROLE_COLOURS = {"champion": BLUE, "deployed": VERMILLION, "model_1": ORANGE, "model_2": GREEN, "model_3": PURPLE}
ROLE_SYMBOLS = {
    "champion": "circle",
    "deployed": "cross",
    "model_1": "square",
    "model_2": "diamond",
    "model_3": "triangle-up",
}
ROLE_DASHES = {"champion": "solid", "deployed": "longdash", "model_1": "dash", "model_2": "dot", "model_3": "dashdot"}
STATUS_COLOURS = {"ok": BLUE, "warning": ORANGE, "alarm": VERMILLION, "no_data": GREY}
STATUS_SYMBOLS = {"ok": "circle", "warning": "triangle-up", "alarm": "x", "no_data": "circle-open"}
METRIC_TITLES = {
    "roc_auc": "AUROC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "log_loss": "log loss",
    "observed_expected": "observed / expected",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "recall": "recall",
    "precision": "precision",
    "top_decile_lift": "lift of the top tenth",
}


def faded(colour: str, alpha: float = 0.16) -> str:
    """The colour as ``rgba(...)``, for bands of intervals."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def styled(figure: go.Figure, height: int = 420) -> go.Figure:
    """The figure with the common layout; its heading stands outside of it, on the page."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 56, "r": 16, "t": 36, "b": 48},
        font={"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 13, "color": "#1b1f24"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.04, "xanchor": "left", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True, gridcolor="rgba(127,127,127,0.25)", zerolinecolor="rgba(127,127,127,0.4)")
    figure.update_yaxes(automargin=True, gridcolor="rgba(127,127,127,0.25)", zerolinecolor="rgba(127,127,127,0.4)")
    return figure
