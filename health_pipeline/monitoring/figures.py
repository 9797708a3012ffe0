"""Figures of a month: a dashboard page and PNG exports under ``<home>/outputs/visuals/<YYYY-MM>/``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring import drift_charts, performance_charts
from health_pipeline.monitoring.dashboard import Panel, Tile, render
from health_pipeline.monitoring.decisions import Decision, decisions
from health_pipeline.monitoring.statuses import month_statuses, rows_of, worst
from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE
from health_pipeline.monitoring.windows import SHOWN_MONTHS
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.privacy import shown_count
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse

CALIBRATION_MONTHS = 12
_TENTHS = 10


def draw_month(warehouse: Warehouse, month: Month, settings: Settings, *, png: bool | None = None) -> list[Path]:
    """Write the dashboard and its figures as PNG; earlier files of the month are replaced or, as stale, removed.

    Args:
        warehouse: monitoring tables, decisions, predictions and labels.
        month: newest month shown; later rows are not read.
        settings: home, small numbers, whether PNGs are wanted at all.
        png: whether this month gets PNGs; by the settings (any but ``off``) when None.

    Returns:
        The files, the dashboard first.
    """
    span = MonthRange(shift(month, 1 - SHOWN_MONTHS), month)
    drift = rows_of(warehouse, DRIFT, span)
    performance = rows_of(warehouse, PERFORMANCE, span)
    log = decisions(warehouse, span)
    panels = _panels(warehouse, month, drift, performance, log, settings)
    folder = settings.outputs / "visuals" / f"{month:%Y-%m}"
    folder.mkdir(parents=True, exist_ok=True)
    page = render(
        f"Readmission monitoring, {month:%B %Y}",
        _subtitle(log, month),
        _tiles(warehouse, month, drift, performance, log, settings),
        panels,
        "Intervals are 95 %, patient-clustered bootstrap. Groups below the smallest published count are suppressed.",
    )
    written = [_write(folder / "dashboard.html", page)]
    for stale in folder.glob("*.png"):
        stale.unlink()
    if settings.monitoring.png != "off" if png is None else png:
        for panel in panels:
            if panel.figure is not None:
                target = folder / f"{panel.name}.png"
                panel.figure.write_image(target, format="png", width=1000, height=panel.figure.layout.height, scale=1.5)
                written.append(target)
    return written


def _panels(
    warehouse: Warehouse,
    month: Month,
    drift: list[dict[str, Any]],
    performance: list[dict[str, Any]],
    log: list[Decision],
    settings: Settings,
) -> list[Panel]:
    window, small = settings.monitoring.performance_window, settings.privacy.small_number
    overall = [row for row in performance if row["segment"] == "all"]
    matured = sorted({row["month"] for row in performance if row["kind"] == "realised" and row["value"] is not None})
    is_pooled = any(
        row["kind"] == "realised" and row["window_months"] == window and row["value"] is not None for row in overall
    )
    newest = [row for row in performance if matured and row["month"] == matured[-1]]
    grouped = [row for row in newest if row["model_role"] == "champion" and row["segment"] != "all"]
    widest = max((row["window_months"] for row in grouped if row["kind"] == "realised"), default=0)
    bins = calibration_bins(warehouse, month, settings)
    has_drift = any(row["metric"] == "psi" and row["value"] is not None for row in drift)
    return [
        Panel(
            "trajectories",
            "Performance over time",
            f"Realised measures over {window} months, with the champion's interval (band) and the limit beyond which "
            "it is called worse than its holdout.",
            performance_charts.trajectories(overall, window) if is_pooled else None,
        ),
        Panel(
            "estimated_and_realised",
            "Estimated and realised AUROC",
            "The estimate needs no outcomes and is there at once; the outcome follows a month later. An outcome "
            "outside the estimate's interval means that risk factors act differently now.",
            performance_charts.estimated_and_realised(overall) if performance else None,
            is_half=True,
        ),
        Panel(
            "calibration",
            "Calibration",
            f"Tenths of predicted risk over the last {CALIBRATION_MONTHS} months, as far as they have matured: on the "
            "dashed line the prediction is right.",
            performance_charts.calibration(bins) if bins else None,
            is_half=True,
        ),
        Panel(
            "drift_heat_map",
            "Drift by feature and month",
            "Population stability index over its limit (chance level or relevance, whichever is larger). "
            "Marks, of missing values and new categories too: ! warning, ✖ alarm, ? no data.",
            drift_charts.drift_heat_map(drift) if has_drift else None,
        ),
        Panel(
            "subgroups",
            "Subgroups",
            f"The champion's AUROC in groups of patients, {widest} months pooled, 95 % intervals; dashed: everybody.",
            performance_charts.subgroups(newest, widest) if widest else None,
            is_half=True,
        ),
        Panel(
            "volume",
            "Discharges",
            "Monthly volume; a cross marks a month outside the prediction interval of the year before.",
            drift_charts.volume_chart(drift, small) if any(row["subject_kind"] == "volume" for row in drift) else None,
            is_half=True,
        ),
        Panel(
            "decisions",
            "Decisions",
            "The model in force each month and the decision behind it.",
            drift_charts.decision_timeline(log) if log else None,
        ),
    ]


def calibration_bins(warehouse: Warehouse, month: Month, settings: Settings) -> list[dict[str, Any]]:
    """Tenths of the champion's predicted risk with the observed rate and its Wilson interval.

    Tenths with fewer readmissions, or others, than the smallest published count are left out.
    """
    from health_pipeline.cohort.tables import LABELS
    from health_pipeline.modeling.tables import PREDICTIONS

    warehouse.ensure(PREDICTIONS, LABELS)
    span = MonthRange(shift(month, 1 - CALIBRATION_MONTHS), month)
    with warehouse.read(f"calibration {month:%Y-%m}") as connection:
        rows = connection.execute(
            "WITH scored AS (SELECT p.probability, l.readmitted_30d::INT AS outcome, "
            f"ntile({_TENTHS}) OVER (ORDER BY p.probability, p.month, p.encounter_id) AS tenth "
            f"FROM {Slice(PREDICTIONS, span)} AS p JOIN {Slice(LABELS, span)} AS l USING (month, encounter_id) "
            "WHERE p.model_role = 'champion' AND l.readmitted_30d IS NOT NULL) "
            "SELECT round(avg(probability), 4), sum(outcome), count(*) FROM scored GROUP BY tenth ORDER BY tenth"
        ).fetchall()
    bins: list[dict[str, Any]] = []
    for predicted, events, n in rows:
        if min(events, n - events) < settings.privacy.small_number:
            continue
        low, high = _wilson(int(events), int(n))
        bins.append({"predicted": predicted, "observed": events / n, "ci_low": low, "ci_high": high, "n": n})
    return bins


def _wilson(events: int, n: int, z: float = 1.96) -> tuple[float, float]:
    rate = events / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _tiles(
    warehouse: Warehouse,
    month: Month,
    drift: list[dict[str, Any]],
    performance: list[dict[str, Any]],
    log: list[Decision],
    settings: Settings,
) -> list[Tile]:
    status = month_statuses(warehouse, MonthRange(month, month))[0]
    discharges = next((row["n"] for row in drift if row["month"] == month and row["subject_kind"] == "volume"), None)
    decision = next((item for item in log if item.month == month), None)
    tiles = [
        Tile(
            "discharges",
            "no data" if discharges is None else shown_count(discharges, settings.privacy.small_number),
            "ok" if discharges else "no_data",
        ),
        Tile("drift", status.drift.replace("_", " "), status.drift),
        Tile("decision", decision.decision if decision else "no data", "ok" if decision else "no_data"),
    ]
    for kind in ("estimated", "realised"):
        found = [
            row
            for row in performance
            if row["kind"] == kind
            and row["model_role"] == "champion"
            and row["segment"] == "all"
            and row["metric"] == "roc_auc"
            and row["window_months"] == 1
            and row["month"] == month
        ]
        if not found:
            text = "not matured" if kind == "realised" else "no data"
        elif not performance_charts.is_known(found[0]):
            text = "no data"
        else:
            text = f"{found[0]['value']:.3f} [{found[0]['ci_low']:.3f}, {found[0]['ci_high']:.3f}]"
        tiles.append(Tile(f"{kind} AUROC", text, worst(row["status"] for row in found)))
    return tiles


def _subtitle(log: list[Decision], month: Month) -> str:
    decision = next((item for item in log if item.month == month), None)
    if decision is None or decision.model_id is None:
        return "No model is in force."
    return f"Model in force: {decision.model_id}, trained for {decision.model_month:%Y-%m}."


def _write(target: Path, text: str) -> Path:
    target.write_text(text, "utf-8")
    return target
