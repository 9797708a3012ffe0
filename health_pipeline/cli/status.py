"""``health-pipeline status``: what the warehouse and the instance hold, in one report."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as View

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Table, Warehouse

Report = dict[str, Any]
SHOWN_MONTHS = 24


def collect_status(settings: Settings) -> Report:
    """Months and rows per table, champion per month, performance, open alerts; aggregates only."""
    from health_pipeline.defs.build import build_definitions, tables
    from health_pipeline.defs.instance import open_instance

    warehouse = Warehouse.from_settings(settings)
    defs = build_definitions(settings)
    with open_instance(settings) as instance:
        alerts = _failed_checks(defs, instance)
    return {
        "home": str(settings.home),
        "start_month": f"{settings.start_month:%Y-%m}",
        "end_month": f"{settings.end_month:%Y-%m}" if settings.end_month else None,
        "first_model_month": f"{settings.first_model_month:%Y-%m}",
        "tables": [_table_row(warehouse, table) for table in tables(settings)],
        "champions": _champions(warehouse),
        "open_alerts": alerts,
    }


def _table_row(warehouse: Warehouse, table: Table) -> Report:
    counted = _rows(
        warehouse,
        table.qualified,
        f"SELECT count(DISTINCT {table.partition}) AS months, count(*) AS rows, "
        f"min({table.partition}) AS first_month, max({table.partition}) AS last_month FROM {table.qualified}",
    )
    row = counted[0] if counted else {"months": 0, "rows": 0, "first_month": None, "last_month": None}
    return {"table": table.qualified, **row}


def _champions(warehouse: Warehouse) -> list[Report]:
    champions = _rows(
        warehouse,
        "models.champion",
        "SELECT strftime(month, '%Y-%m') AS month, decision, family, model_id, holdout_rows, reason "
        "FROM models.champion ORDER BY month",
    )
    performance = _rows(
        warehouse,
        "monitoring.performance",
        "SELECT strftime(month, '%Y-%m') AS month, kind, value, ci_low, ci_high, n FROM monitoring.performance "
        "WHERE model_role = 'champion' AND metric = 'roc_auc' AND segment = 'all' AND window_months = 1 ORDER BY month",
    )
    for champion in champions:
        for row in performance:
            if row["month"] == champion["month"] and row["kind"] in {"estimated", "realised"}:
                champion[f"{row['kind']}_roc_auc"] = row["value"]
    return champions


def _rows(warehouse: Warehouse, table: str, sql: str) -> list[Report]:
    schema, name = table.split(".")
    with warehouse.read("status") as connection:
        known = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", [schema, name]
        ).fetchone()
        if known is None:
            return []
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _failed_checks(defs: Any, instance: Any) -> list[Report]:
    """Latest evaluation of each check and month that failed."""
    from dagster import AssetCheckSeverity
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

    failed = []
    for key in sorted(defs.resolve_asset_graph().asset_check_keys, key=str):
        seen: set[str | None] = set()
        for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=1000):
            # A run that was killed leaves evaluations that were planned and never made: what was found before stands.
            if record.partition in seen or record.status == AssetCheckExecutionRecordStatus.PLANNED:
                continue
            seen.add(record.partition)
            if record.status != AssetCheckExecutionRecordStatus.FAILED:
                continue
            evaluation = record.event.dagster_event.asset_check_evaluation_data
            failed.append(
                {
                    "check": f"{key.asset_key.to_user_string()}:{key.name}",
                    "month": record.partition and record.partition[:7],
                    "severity": evaluation.severity.value
                    if isinstance(evaluation.severity, AssetCheckSeverity)
                    else str(evaluation.severity),
                    "summary": evaluation.description,
                }
            )
    return failed


def print_status(report: Report, console: Console) -> None:
    """The report for people."""
    console.print(
        f"[bold]{escape(report['home'])}[/]  months {report['start_month']}..{report['end_month'] or 'open'}, "
        f"models from {report['first_model_month']}"
    )
    view = View("table", "months", "rows", "from", "to", title="Tables", title_justify="left")
    for row in report["tables"]:
        view.add_row(
            row["table"],
            str(row["months"]),
            f"{row['rows']:,}",
            *(f"{row[name]:%Y-%m}" if row[name] else "-" for name in ("first_month", "last_month")),
        )
    console.print(view)
    view = View(
        "month", "decision", "champion", "estimated AUROC", "realised AUROC", title="Champions", title_justify="left"
    )
    for row in report["champions"][-SHOWN_MONTHS:]:
        view.add_row(
            row["month"],
            row["decision"],
            row["model_id"] or "-",
            _number(row.get("estimated_roc_auc")),
            _number(row.get("realised_roc_auc")),
        )
    console.print(view)
    if len(report["champions"]) > SHOWN_MONTHS:
        console.print(f"({len(report['champions']) - SHOWN_MONTHS} earlier months: status --json)")
    _print_alerts(report["open_alerts"], console)


def _print_alerts(alerts: list[Report], console: Console) -> None:
    if not alerts:
        console.print("[green]no open alerts[/]")
        return
    by_check: dict[tuple[str, str], list[str]] = {}
    for alert in alerts:
        by_check.setdefault((alert["severity"], alert["check"]), []).append(alert["month"] or "-")
    view = View("severity", "check", "months", title=f"Open alerts ({len(alerts)})", title_justify="left")
    for (severity, check), months in sorted(by_check.items()):
        shown = ", ".join(sorted(months)[-4:])
        view.add_row(severity, check, f"{len(months)}: {shown}")
    console.print(view)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
