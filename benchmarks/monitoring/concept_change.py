"""When the scripted concept change is seen, by hospital size, and how often a stable hospital is said to have changed.

    python -m benchmarks.monitoring.concept_change [--sizes 500 1000 2000 5000] [--seeds 20] [--stable]

Each seed is another hospital of the built-in simulator. A logistic regression on what is known at discharge, trained
anew every three months on months with a gap of eight (validation and holdout), scores the discharges; the outcome is an
unplanned admission within 30 days. The tests are those of the pipeline. ``--stable`` plays no event: every alarm is
false. With the script the change comes in month 30; "first" is that month, which is judged when its outcomes are known.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from health_pipeline.monitoring.concept_rows import concept_rows
from health_pipeline.monitoring.scored import Scored
from health_pipeline.months import parse_month, shift
from health_pipeline.settings import Settings, SimulatorSettings, load_settings
from health_pipeline.sources.simulator.conditions import INDEX
from health_pipeline.sources.simulator.hospital import Hospital
from health_pipeline.sources.simulator.script import SCRIPT
from health_pipeline.sources.simulator.stay import ADMISSION_TYPES, DISPOSITIONS, PAYERS, Stays, concatenate

START = parse_month("2022-01")
FIRST_SCORED, LAST = 12, 36
GAP, LONGEST = 8, 24
NOT_INDEX = ("expired", "acute_transfer", "hospice", "against_advice")
CHANGE = next(event.month for event in SCRIPT if event.kind == "concept change")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--stable", action="store_true")
    parser.add_argument("--each", action="store_true", help="print every month's p-value too")
    arguments = parser.parse_args()
    settings = load_settings(start_month=START, end_month=shift(START, LAST))
    for size in arguments.sizes:
        judged = [
            judge(size, seed, drift=not arguments.stable, settings=settings) for seed in range(1, arguments.seeds + 1)
        ]
        if arguments.each:
            for months in judged:
                print(json.dumps({str(month): [found["status"], found["p"]] for month, found in months.items()}))
        print(json.dumps({"admissions_per_month": size, "seeds": arguments.seeds, **summary(judged, arguments.stable)}))


def summary(judged: Sequence[dict[int, dict[str, Any]]], stable: bool) -> dict[str, Any]:
    """Shares over months (stable) or over seeds (scripted)."""
    calm = [found["status"] for months in judged for month, found in months.items() if stable or month < 20]
    result: dict[str, Any] = {
        "months_without_change": len(calm),
        "false_alarm_share": share(status == "alarm" for status in calm),
        "false_warning_share": share(status == "warning" for status in calm),
    }
    if stable:
        return result
    for later in range(4):
        name = "alarm_in_first_month" if later == 0 else f"alarm_within_{later + 1}_months"
        result[name] = share(
            any(months[month]["status"] == "alarm" for month in range(CHANGE, CHANGE + later + 1)) for months in judged
        )
    result["warning_or_alarm_in_first_month"] = share(
        months[CHANGE]["status"] in {"warning", "alarm"} for months in judged
    )
    result["alarm_in_month_before"] = share(months[CHANGE - 1]["status"] == "alarm" for months in judged)
    return result


def share(found: Any) -> float:
    values = list(found)
    return round(sum(values) / len(values), 3)


def judge(size: int, seed: int, *, drift: bool, settings: Settings) -> dict[int, dict[str, Any]]:
    """Status and p-value of every month of one hospital that has enough history."""
    months = scored_months(size, seed, drift)
    found = {}
    for number in range(FIRST_SCORED + 3, LAST):
        month = shift(START, number)
        rows = pooled(months, range(max(FIRST_SCORED, number - 12), number + 1))
        (row,) = [row for row in concept_rows(rows, month, settings) if row["metric"] == "concept_change"]
        found[number] = {"status": row["status"], "p": row["value"]}
    return found


def scored_months(size: int, seed: int, drift: bool) -> list[dict[str, Any]]:
    """Live the months; train and score as a pipeline would."""
    hospital = Hospital(START, SimulatorSettings(seed=seed, admissions_per_month=size, drift=drift))
    lived = []
    while hospital.index <= LAST:
        care = hospital.advance()
        if care.index >= 0:
            lived.append((care.stays, np.full(len(care.stays), care.effects["urea_factor"])))
    stays = concatenate([stays for stays, _ in lived])
    urea_factor = np.concatenate([factor for _, factor in lived])
    disposition = np.array(DISPOSITIONS)[stays.disposition]
    first_day = np.array([np.datetime64(shift(START, number), "s").astype(np.int64) for number in range(LAST + 1)])
    number = np.searchsorted(first_day, stays.discharged_at, side="right") - 1
    outcome = comes_back(stays)
    is_index = ~np.isin(disposition, NOT_INDEX)
    months: list[dict[str, Any]] = []
    model: Any = None
    for index in range(LAST):
        inside = np.flatnonzero(is_index & (number == index))
        chosen = stays.take(inside)
        month = {
            "known": known(chosen, disposition[inside], urea_factor[inside]),
            "outcome": outcome[inside].astype(float),
            "strata": strata(chosen, disposition[inside]),
            "person": chosen.person.astype(np.uint64),
        }
        if index >= FIRST_SCORED:
            if model is None or index % 3 == 0:
                past = months[max(0, index - GAP - LONGEST) : max(6, index - GAP)]
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
                model.fit(np.vstack([m["known"] for m in past]), np.concatenate([m["outcome"] for m in past]))
            month["probability"] = model.predict_proba(month["known"])[:, 1]
        months.append(month)
    return months


def comes_back(stays: Stays) -> NDArray[np.bool_]:
    """Whether an unplanned stay of the same person begins within 30 days of the discharge."""
    unplanned = ~stays.is_planned.astype(bool)
    far = np.int64(1) << 40
    begins = np.sort(stays.person[unplanned].astype(np.int64) * far + stays.admitted_at[unplanned])
    own = stays.person.astype(np.int64) * far + stays.discharged_at
    following = np.searchsorted(begins, own, side="right")
    found = begins[np.minimum(following, begins.size - 1)]
    return np.asarray((following < begins.size) & (found - own <= 30 * 86_400))


def known(stays: Stays, disposition: NDArray[Any], urea_factor: NDArray[Any]) -> NDArray[np.float64]:
    """What is known at discharge, as it is landed."""
    columns = [
        stays.conditions,
        stays.age,
        np.log1p(stays.prior_stays),
        np.log1p(stays.prior_emergency),
        np.log1p(stays.days),
        stays.is_urgent,
        np.log(stays.urea * urea_factor),
        stays.haemoglobin,
        stays.sodium,
        stays.albumin,
        np.log(stays.creatinine),
        stays.drugs,
        *(stays.payer == index for index in range(len(PAYERS))),
        *(disposition == name for name in ("home_health", "skilled_nursing", "rehabilitation", "long_term_care")),
    ]
    return np.column_stack(columns).astype(np.float64)


def strata(stays: Stays, disposition: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The strata of ``monitoring/strata.py``."""

    def yes_no(flag: NDArray[Any]) -> NDArray[Any]:
        return np.where(flag, "yes", "no")

    return {
        "discharge_disposition": disposition,
        "prior_stays": np.select([stays.prior_stays < 1, stays.prior_stays < 3], ["0", "1-2"], "3+"),
        "prior_emergency": yes_no(stays.prior_emergency > 0),
        "heart_failure": yes_no(stays.conditions[:, INDEX["heart_failure"]] > 0),
        "chronic_pulmonary": yes_no(stays.conditions[:, INDEX["copd"]] > 0),
        "admission_type": np.array(ADMISSION_TYPES)[stays.admission_type],
        "length_of_stay": np.select([stays.days < 3, stays.days < 7], ["0-2", "3-6"], "7+"),
        "payer": np.array(PAYERS)[stays.payer],
        "age_75": yes_no(stays.age >= 75),
    }


def pooled(months: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Scored:
    """Rows of several months as the pipeline holds them."""
    chosen = [months[number] for number in numbers]
    sizes = [month["outcome"].size for month in chosen]
    probability = np.concatenate([month["probability"] for month in chosen])
    return Scored(
        np.repeat([np.datetime64(shift(START, number)) for number in numbers], sizes),
        pd.Categorical.from_codes(np.zeros(sum(sizes), np.int8), ["model"]),
        np.concatenate([month["person"] for month in chosen]),
        probability,
        (probability > 0.2).astype(float),
        np.concatenate([month["outcome"] for month in chosen]),
        {},
        {
            name: pd.Categorical(np.concatenate([month["strata"][name] for month in chosen]))
            for name in chosen[0]["strata"]
        },
    )


if __name__ == "__main__":
    main()
