"""One self-contained HTML page per month: figures, plotly.js once, nothing fetched when it is looked at."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Panel:
    """A figure with its words.

    Attributes:
        name: file name of the export and anchor on the page.
        title: heading.
        text: one or two sentences: what is shown and how to read it.
        figure: None when there is nothing to draw yet.
        is_half: whether two of them stand side by side on a wide screen.
    """

    name: str
    title: str
    text: str
    figure: go.Figure | None
    is_half: bool = False


@dataclass(frozen=True)
class Tile:
    """A headline number; ``status`` colours it."""

    label: str
    value: str
    status: str = "ok"


def render(title: str, subtitle: str, tiles: Sequence[Tile], panels: Sequence[Panel], footer: str) -> str:
    """The page as text."""
    from plotly.offline import get_plotlyjs

    drawn = {panel.name: json.loads(panel.figure.to_json()) for panel in panels if panel.figure is not None}
    for figure in drawn.values():
        figure["layout"].pop("template", None)
    return Template(files("health_pipeline.monitoring").joinpath("dashboard.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        links=" ".join(f'<a href="#{panel.name}-section">{html.escape(panel.title)}</a>' for panel in panels),
        tiles="".join(_tile(tile) for tile in tiles),
        sections="".join(_section(panel) for panel in panels),
        footer=html.escape(footer),
        plotly=get_plotlyjs(),
        figures=json.dumps(drawn, sort_keys=True).replace("</", "<\\/"),
    )


def _tile(tile: Tile) -> str:
    value, label = html.escape(tile.value), html.escape(tile.label)
    return f'<div class="tile"><span>{label}</span><b class="{tile.status}">{value}</b></div>'


def _section(panel: Panel) -> str:
    body = (
        f'<div class="plot" id="{panel.name}" role="img" aria-label="{html.escape(panel.title)}"></div>'
        if panel.figure is not None
        else '<div class="empty">no data yet</div>'
    )
    half = ' class="half"' if panel.is_half else ""
    return (
        f'<section id="{panel.name}-section"{half}><h2>{html.escape(panel.title)}</h2>'
        f"<p>{html.escape(panel.text)}</p>{body}</section>"
    )
