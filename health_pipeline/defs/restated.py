"""Restated months, read off the instance's records: for the check, the command line and the re-run.

Belongs here: which records and rows say it. Does not belong here: what follows from them (``contracts.restatement``).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from health_pipeline.cohort import LABELS
from health_pipeline.contracts import LANDING_TABLES, SILVER
from health_pipeline.contracts.restated_decisions import DecisionWindow, decision_windows, touched_decisions
from health_pipeline.contracts.restatement import Restatements, Version, Window
from health_pipeline.contracts.restatement_review import Review, unchanged
from health_pipeline.defs.checks import RecordCheck, report
from health_pipeline.defs.due import Stage, due
from health_pipeline.defs.state import read_state, records_of
from health_pipeline.features import FEATURE_TABLE
from health_pipeline.modeling import model_table
from health_pipeline.months import Month, MonthRange, parse_month
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Verdict
from health_pipeline.warehouse import Table, Warehouse
from health_pipeline.warehouse.slices import Slice

CHECK = "restated"
LANDED = tuple(table.qualified for table in SILVER.values())
REMADE = (FEATURE_TABLE.qualified, LABELS.qualified)
DERIVED_GROUPS = {"gold", "models", "scoring", "monitoring"}
SETTLED = 1e12
"""POSIX seconds after any file was written: a person who asks does not wait for files to settle."""

PAGE = 1000
"""Materialisations read at a time."""

HISTORY = 1000
"""Evaluations of a check that are looked through for warnings."""

Reads = Mapping[str, Mapping[str, Window]]


def records(defs: dg.Definitions, instance: dg.DagsterInstance, settings: Settings) -> "Records":
    """The records of a home, read with the windows of its graph."""
    assets = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return Records(instance, settings, reads_of(assets))


def reads_of(assets: Iterable[dg.AssetsDefinition]) -> Reads:
    """Inputs of each derived table and their windows, as the graph itself declares them; upstream first."""
    found: dict[str, dict[str, Window]] = {}
    for asset in assets:
        if asset.group_names_by_key[asset.key] in DERIVED_GROUPS:
            found[".".join(asset.key.path)] = {
                ".".join(parent.path): Window(-mapping.start_offset, mapping.end_offset)
                for parent in asset.asset_deps[asset.key]
                if isinstance(mapping := asset.get_partition_mapping(parent), dg.TimeWindowPartitionMapping)
            }
    return found


def restated_checks(settings: Settings, reads: Reads) -> list[RecordCheck]:
    """For each landing table: was a month restated after something had been made from it?"""

    def check(name: str) -> RecordCheck:
        table = SILVER[name].qualified

        def evaluate(instance: dg.DagsterInstance, months: MonthRange) -> list[Verdict]:
            return Records(instance, settings, reads).verdicts(table, months)

        return RecordCheck(
            CHECK,
            table,
            "The month is what it was when other months, models and decisions were made from it. WARN: it was "
            "corrected, withdrawn or came late; names what rests on what it was (`health-pipeline restated list`).",
            evaluate,
        )

    return [check(name) for name in LANDING_TABLES]


def restated_sensor(settings: Settings, reads: Reads, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Lifts warnings of restated months, however their re-run was started."""

    @dg.sensor(
        name="restated_months",
        minimum_interval_seconds=300,
        default_status=status,
        description="Lift the warnings of restated months once nothing rests on what they were.",
    )
    def restated_months(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(f"{Records(context.instance, settings, reads).lift()} warnings lifted")

    return restated_months


@dataclass(frozen=True)
class Records:
    """The records of a home and what they say of restated months."""

    instance: dg.DagsterInstance
    settings: Settings
    reads: Reads

    def review(self) -> Review:
        """Everything that rests on restated months."""
        made = {table: records_of(self.instance, table) for table in self.reads}
        histories = {table: self._history(table) for table in (*LANDED, *REMADE)}
        restated = Restatements(self.reads, made, histories)
        champions = made.get(CHAMPION.qualified, {})
        decided = [window for window in self._decision_windows() if window.month in champions]
        touched = touched_decisions(decided, lambda month: restated.changed_since(REMADE, champions[month]))
        return Review(self._waiting(), restated.behind, tuple(touched), max(champions, default=None))

    def verdicts(self, table: str, months: MonthRange) -> list[Verdict]:
        """One verdict for each month of a landing table; histories are read only where something was made before."""
        newest = records_of(self.instance, table)
        readers = {
            name: (inputs[table], records_of(self.instance, name))
            for name, inputs in self.reads.items()
            if table in inputs
        }
        suspicious = any(
            record < newest[month] and window.covers(reader, month)
            for window, made in readers.values()
            for reader, record in made.items()
            for month in months
            if month in newest
        )
        if not suspicious:
            return [unchanged(month) for month in months]
        review = self.review()
        return [review.verdict(table, month) for month in months]

    def lift(self) -> int:
        """Judge anew the months that are warned of, since what rested on them may have been made again.

        Returns:
            How many warnings were lifted.
        """
        warned = {table: months for table in LANDED if (months := self._warned(table))}
        if not warned:
            return 0
        review = self.review()
        verdicts = [
            (table, verdict)
            for table, months in warned.items()
            for verdict in (review.verdict(table, month) for month in months)
            if verdict.passed
        ]
        for table, verdict in verdicts:
            report(self.instance, CHECK, table, verdict)
        return len(verdicts)

    def _warned(self, table: str) -> list[Month]:
        key = dg.AssetCheckKey(dg.AssetKey(table.split(".")), CHECK)
        newest: dict[str, bool] = {}
        for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=HISTORY):
            # A run that was killed leaves evaluations that were planned and never made.
            if record.partition is not None and isinstance(record.evaluation, dg.AssetCheckEvaluation):
                newest.setdefault(record.partition, record.evaluation.passed)
        return sorted(parse_month(partition) for partition, passed in newest.items() if not passed)

    def _history(self, table: str) -> dict[Month, list[Version]]:
        found: dict[Month, list[Version]] = defaultdict(list)
        cursor, more = None, True
        while more:
            page = self.instance.fetch_materializations(
                dg.AssetKey(table.split(".")), limit=PAGE, cursor=cursor, ascending=True
            )
            cursor, more = page.cursor, page.has_more
            for record in page.records:
                made = record.asset_materialization
                if made is None or made.partition is None:
                    continue
                rows = made.metadata.get("dagster/partition_row_count")
                content = (made.tags or {}).get(DATA_VERSION_TAG) if rows and rows.value else None
                found[parse_month(made.partition)].append(Version(record.storage_id, content))
        return found

    def _waiting(self) -> tuple[Month, ...]:
        state = read_state(self.instance, self.settings, SETTLED)
        return tuple(item.month for item in due(state) if item.stage is Stage.EXTRACTS and item.month in state.ingested)

    def _decision_windows(self) -> list[DecisionWindow]:
        warehouse = Warehouse.from_settings(self.settings)
        models = [
            row
            for family in self.settings.training.families
            for row in _rows(warehouse, model_table(family), ("model_id", "training_first", "validation_last"))
        ]
        names = ("month", "decision", "model_id", "challenger_id", "incumbent_id", "holdout_first", "holdout_last")
        return decision_windows(_rows(warehouse, CHAMPION, names), models)


def _rows(warehouse: Warehouse, table: Table, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    warehouse.ensure(table)
    span = MonthRange.of("0001-01", "9999-11")
    found: list[dict[str, Any]] = warehouse.fetch(
        f"SELECT * FROM {Slice(table, span, columns)}", "restated"
    ).to_pylist()
    return found
