"""Quality of champion and candidates on UCI Diabetes 130, rolling out of time, beside AutoML.

Each month is scored by the models that could have existed when it began; months are pooled. AutoML (FLAML) gets, for
each month, the rows and features of the candidates and a stated number of seconds: about what both took, with tuning.
Build the home first (uci_home.py), or take one on which the graph ran (``--stored``).

python benchmarks/modeling/uci_quality.py <home> [--first 2002-01] [--last 2007-05] [--training-months 36]
       [--profile standard] [--stored] [--automl-seconds 10] [--automl-every 1] [--figure quality.svg]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from uci_home import MONTHS, uci_settings

from health_pipeline import cohort, features
from health_pipeline.clock import system_clock
from health_pipeline.environment import prepare_environment
from health_pipeline.modeling import PREDICTIONS, model_table, score_months, train_months
from health_pipeline.modeling.metrics import Estimate, measure_with_intervals, paired_bootstrap
from health_pipeline.months import Month, MonthRange
from health_pipeline.promotion import CHAMPION, champion_months
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

RESULTS = Path(__file__).resolve().parents[1] / "results" / "uci_quality.json"
SHOWN = ("roc_auc", "average_precision", "brier", "ece", "calibration_slope", "top_decile_lift")
NAMES = {"model_1": "logistic regression", "model_2": "XGBoost", "model_3": "random forest"}
CEILING = 0.72
FEATURES, LABELS = Slice(features.FEATURE_TABLE, MONTHS), Slice(cohort.LABELS, MONTHS)


@dataclass(frozen=True)
class Pool:
    """Labelled discharges of the months with the probability each model gave them."""

    patients: np.ndarray
    y: np.ndarray
    months: np.ndarray
    encounters: np.ndarray
    probabilities: dict[str, np.ndarray]

    def only(self, months: Iterable[Month]) -> Pool:
        kept = np.isin(self.months, np.array(sorted(months), dtype="datetime64[D]"))
        return Pool(
            self.patients[kept],
            self.y[kept],
            self.months[kept],
            self.encounters[kept],
            {name: values[kept] for name, values in self.probabilities.items()},
        )


def train_judge_score(settings: Settings, months: MonthRange) -> None:
    """Candidates, champion and predictions of all months up to the last one, as the graph makes them."""
    warehouse = Warehouse.from_settings(settings)
    everything = MonthRange(settings.first_model_month, months.last)
    families = settings.training.families
    for family in families:
        started, table = time.perf_counter(), model_table(family)
        rows = train_months(
            family, warehouse, FEATURES, LABELS, Slice(table, MONTHS), everything, settings, system_clock, _quiet
        )
        warehouse.replace(table, everything, rows)
        print(f"{family}: {len(everything)} months in {time.perf_counter() - started:.0f} s", flush=True)
    candidates = {family: Slice(model_table(family), everything) for family in families}
    started = time.perf_counter()
    champions = champion_months(warehouse, candidates, None, FEATURES, LABELS, months=everything, settings=settings)
    warehouse.replace(CHAMPION, everything, champions)
    champion = Slice(CHAMPION, everything)
    warehouse.replace(PREDICTIONS, months, score_months(warehouse, FEATURES, candidates, champion, months, settings))
    print(f"champion and predictions in {time.perf_counter() - started:.0f} s", flush=True)


def _quiet(line: str) -> None:
    del line


def pooled(warehouse: Warehouse, months: MonthRange) -> Pool:
    """The months' labelled discharges that every model scored, in the order month, encounter."""
    rows = warehouse.fetch(
        f"SELECT month, encounter_id, any_value(l.patient_key) AS patient_key, any_value(readmitted_30d)::DOUBLE AS y, "
        f"map(list(model_role), list(probability)) AS p FROM {Slice(PREDICTIONS, months)} AS p "
        f"JOIN {LABELS.only(months)} AS l USING (month, encounter_id) WHERE readmitted_30d IS NOT NULL "
        "GROUP BY month, encounter_id ORDER BY month, encounter_id",
        "pooled predictions",
    ).to_pydict()
    given = [dict(pairs) for pairs in rows["p"]]
    roles = sorted(set.intersection(*(set(each) for each in given)))
    probabilities = {NAMES.get(role, role): np.array([each[role] for each in given]) for role in roles}
    return Pool(
        patients=np.unique(rows["patient_key"], return_inverse=True)[1],
        y=np.array(rows["y"]),
        months=np.array(rows["month"], dtype="datetime64[D]"),
        encounters=np.array(rows["encounter_id"]),
        probabilities=probabilities,
    )


def with_automl(pool: Pool, settings: Settings, months: list[Month], budget: float) -> Pool:
    """The pool's rows of some months with AutoML's probabilities beside the others."""
    from automl import search

    part = pool.only(months)
    found: dict[tuple[np.datetime64, str], float] = {}
    chosen: Counter[str] = Counter()
    seconds = 0.0
    for month in months:
        result = search(Warehouse.from_settings(settings), FEATURES, LABELS, month, settings, budget)
        day = np.datetime64(month, "D")
        found.update(((day, name), p) for name, p in zip(result.encounters, result.probabilities, strict=True))
        chosen[result.learner] += 1
        seconds += result.cpu_seconds
    name = f"FLAML, {budget:g} s a month"
    print(f"{name}: {len(months)} months, {seconds / len(months):.1f} CPU s each; chosen {dict(chosen.most_common())}")
    values = np.array([found[key] for key in zip(part.months, part.encounters, strict=True)])
    return Pool(part.patients, part.y, part.months, part.encounters, {**part.probabilities, name: values})


def table(pool: Pool) -> dict[str, dict[str, Estimate]]:
    """Print the measures of each model on the same rows."""
    print(f"\n{pool.y.size} discharges of {np.unique(pool.patients).size} patients, {pool.y.mean():.1%} readmitted\n")
    print("| model | " + " | ".join(name.replace("_", " ") for name in SHOWN) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    measured = {}
    for name, p in pool.probabilities.items():
        measured[name] = measure_with_intervals(pool.y, p, clusters=pool.patients, metrics=SHOWN)
        cells = [f"{each.value:.4f} [{each.ci_low:.4f}, {each.ci_high:.4f}]" for each in measured[name].values()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        if measured[name]["roc_auc"].value > CEILING:
            print(f"above {CEILING}: a leak until it is explained")
    return measured


def compare(pool: Pool, baseline: str) -> None:
    """Print what each model gains over the baseline on the same patients."""
    print(f"\nAUROC gain over {baseline}, paired:")
    for name, p in pool.probabilities.items():
        if name != baseline:
            gain = paired_bootstrap("roc_auc", pool.y, pool.probabilities[baseline], p, pool.patients)
            print(f"  {name:<22}{gain.difference:+.4f} [{gain.ci_low:+.4f}, {gain.ci_high:+.4f}]")


def draw(measured: dict[str, dict[str, Estimate]], file: Path) -> None:
    import plotly.graph_objects as go

    values = [each["roc_auc"] for each in measured.values()]
    figure = go.Figure()
    figure.add_scatter(
        x=[value.value for value in values],
        y=list(measured),
        mode="markers",
        error_x={
            "array": [value.ci_high - value.value for value in values],
            "arrayminus": [value.value - value.ci_low for value in values],
        },
    )
    figure.update_layout(
        title="UCI Diabetes 130, out of time: pooled AUROC, 95 % patient-clustered interval",
        xaxis_title="AUROC",
        template="plotly_white",
        width=900,
        height=350,
        margin={"l": 200},
    )
    figure.update_yaxes(autorange="reversed")
    figure.write_image(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--first", default="2002-01")
    parser.add_argument("--last", default="2007-05")
    parser.add_argument("--training-months", type=int, default=36)
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--stored", action="store_true", help="take the predictions that the home holds")
    parser.add_argument("--automl-seconds", type=float, default=0.0, help="FLAML's budget a month; 0 leaves it out")
    parser.add_argument("--automl-every", type=int, default=1, help="only every n-th month, to save time")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    prepare_environment()
    settings = uci_settings(
        arguments.home,
        windows={"training_months": arguments.training_months},
        training={"profile": arguments.profile, "threads": arguments.threads},
    )
    months = MonthRange.of(arguments.first, arguments.last)
    if not arguments.stored:
        train_judge_score(settings, months)
    pool = pooled(Warehouse.from_settings(settings), months)
    measured = table(pool)
    if arguments.automl_seconds:
        some = list(months)[:: arguments.automl_every]
        part = with_automl(pool, settings, some, arguments.automl_seconds)
        beside = table(part)
        compare(part, list(part.probabilities)[-1])
        measured = beside if len(some) == len(months) else measured
    RESULTS.parent.mkdir(exist_ok=True)
    plain = {
        model: {name: [each.value, each.ci_low, each.ci_high] for name, each in found.items()}
        for model, found in measured.items()
    }
    RESULTS.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if arguments.figure:
        draw(measured, arguments.figure)


if __name__ == "__main__":
    main()
