"""What proves that nothing was lost and nothing was done twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dagster as dg
import duckdb

from benchmarks.soak.faults import alerts
from health_pipeline import deployment
from health_pipeline.clock import system_clock
from health_pipeline.defs.requests import REQUEST_TAG
from health_pipeline.deployment.standing import JUDGING
from health_pipeline.months import Month, month_key
from health_pipeline.notify.delivery import outbox_of
from health_pipeline.settings import Settings

COMPARED = {
    "silver.admissions": "*",
    "silver.patients": "*",
    "silver.clinical_events": "*",
    "silver.claims": "*",
    "quarantine.rejected_rows": "* EXCLUDE source_file",
    "gold.features": "*",
    "gold.labels": "*",
    "gold.cohort_attrition": "*",
    "gold.predictions": "*",
    "models.champion": "month, model_id, decision, criteria",
    "monitoring.drift": "*",
    "monitoring.performance": "*",
}

COMPARABLE = {"monitoring.performance": "model_role <> 'deployed'"}
"""Rows that the other home cannot have, since it deploys nothing, are left out."""


def against_undisturbed(soaked: Settings, undisturbed: Settings, last: Month) -> dict[str, dict[str, int]]:
    """Rows of every table, and how many differ from a home that got all files at once and had no faults."""
    found = {}
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{soaked.warehouse_path}' AS soaked (READ_ONLY)")
        connection.execute(f"ATTACH '{undisturbed.warehouse_path}' AS undisturbed (READ_ONLY)")
        for table, columns in COMPARED.items():
            kept = f"month <= DATE '{last}' AND {COMPARABLE.get(table, 'true')}"
            sides = [f"(SELECT {columns} FROM {name}.{table} WHERE {kept})" for name in ("soaked", "undisturbed")]
            counts = [
                connection.execute(f"SELECT count(*) FROM ({sql})").fetchone()
                for sql in (
                    f"FROM {sides[0]}",
                    f"FROM {sides[1]} EXCEPT ALL FROM {sides[0]}",
                    f"FROM {sides[0]} EXCEPT ALL FROM {sides[1]}",
                )
            ]
            rows, lost, surplus = (count[0] if count else 0 for count in counts)
            found[table] = {"rows": rows, "lost": lost, "surplus": surplus}
    return found


def done_twice(settings: Settings, instance: dg.DagsterInstance) -> dict[str, Any]:
    """Requests that succeeded more than once, decisions told or promoted more than once, alerts not delivered."""
    succeeded = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
    requests = Counter(run.tags[REQUEST_TAG] for run in succeeded if REQUEST_TAG in run.tags)
    decisions = Counter(str(line["partition"]) for line in alerts(settings, "decision"))
    events = deployment.history_of(settings, system_clock).events()
    promoted = Counter(event.month for event in events if event.step == "promotion" and event.outcome == "pass")
    identities = Counter(line["event_id"] for line in alerts(settings))
    return {
        "runs_succeeded": len(succeeded),
        "requests_run_twice": sorted(name for name, count in requests.items() if count > 1),
        "decisions_told": len(decisions),
        "decisions_told_twice": sorted(name for name, count in decisions.items() if count > 1),
        "promotions": sum(promoted.values()),
        "months_promoted_twice": sorted(name for name, count in promoted.items() if count > 1),
        "alerts": len(identities),
        "alerts_written_twice": sum(count > 1 for count in identities.values()),
        "alerts_undelivered": len(outbox_of(settings).deliveries("pending", "sending", "failed")),
        "broken_history": deployment.verify_chain(events),
    }


def decided_at(instance: dg.DagsterInstance, month: Month) -> float | None:
    """When the champion of the month was first stored (POSIX seconds)."""
    return _first(instance, "models/champion", month)


def is_stored(instance: dg.DagsterInstance, asset: str, month: Month) -> bool:
    """Whether the asset has the month."""
    return _first(instance, asset, month) is not None


def _first(instance: dg.DagsterInstance, asset: str, month: Month) -> float | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset.split("/")), asset_partitions=[month_key(month)]), limit=100
    ).records
    return min((record.timestamp for record in records), default=None)


def serving_at(settings: Settings, instance: dg.DagsterInstance, month: Month) -> tuple[str, float] | None:
    """What became of the month's decision (``promoted``, ``refused``, ``skipped``), and when; None while that is open.

    A release that is refused in its tests or under traffic is an end: the former one serves, and the alert says why.
    """
    events = [
        event for event in deployment.history_of(settings, system_clock).events() if event.month == month_key(month)
    ]
    ended = [event for event in events if event.step in {"promotion", "skip"}]
    done = [event for event in ended if event.outcome in {"pass", "no-op", "skipped"}]
    if done:
        return ("skipped" if done[0].step == "skip" else "promoted"), done[0].recorded_at.timestamp()
    refused = [event for event in events if event.step in JUDGING and event.outcome in {"fail", "inconclusive"}]
    if refused:
        return "refused", refused[-1].recorded_at.timestamp()
    report = _first(instance, "deployment/skip_report", month)
    return None if report is None else ("skipped", report)
