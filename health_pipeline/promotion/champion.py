"""``models.champion``: months in order, each judged against the champion of the month before."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import structlog

from health_pipeline.errors import ModelError
from health_pipeline.modeling.dataset import read_dataset
from health_pipeline.modeling.parallel import one_blas_thread
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion.candidates import Model, challenger_of, read_candidates
from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import Contender, Estimate, Evidence, Force, Record
from health_pipeline.promotion.holdout import holdout_months, holdout_of
from health_pipeline.promotion.measure import Bootstrap, Scored, measure
from health_pipeline.promotion.plan import Plan, load_plan
from health_pipeline.promotion.policy import Policy, policy_of
from health_pipeline.promotion.provenance import Scorer, artefact_scorer, refuse_other_schema
from health_pipeline.promotion.tables import CHAMPION

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

Row = dict[str, Any]

log = structlog.get_logger(__name__)


def champion_months(
    warehouse: Warehouse,
    candidates: Mapping[str, Slice],
    previous: Slice | None,
    features: Slice,
    labels: Slice,
    *,
    months: MonthRange,
    settings: Settings,
    scorer: Scorer | None = None,
) -> pa.Table:
    """The champion of each month with the decision that put it in force.

    Args:
        warehouse: where the slices live.
        candidates: ``models.<family>`` by family.
        previous: ``models.champion`` of the month before the range; not looked at in the first model month.
        features: ``gold.features`` of the holdout months.
        labels: ``gold.labels`` of the holdout months.
        months: months to decide, in order.
        settings: thresholds, windows and seeds.
        scorer: how a model scores rows; through its artefact under the home when left out.

    Returns:
        One row a month with the columns of ``CHAMPION``.

    Raises:
        ModelError: the month before has no row yet, or a model is not what its row says.
    """
    plan = load_plan(settings.promotion.plan)
    judge = _Judge(warehouse, features, labels, settings, plan, scorer or artefact_scorer(settings.home))
    with warehouse.read(f"candidates of {months}") as connection:
        by_month = read_candidates(connection, candidates, months)
    incumbent = _champion_before(warehouse, previous, months.first, settings)
    rows: list[Row] = []
    with one_blas_thread():
        for month in months:
            row = judge.month(month, by_month.get(month, []), incumbent)
            log.info("champion", month=f"{month:%Y-%m}", decision=row["decision"], model=row["model_id"])
            log.debug("champion reasoning", month=f"{month:%Y-%m}", reason=row["reason"])
            rows.append(row)
            incumbent = _model_in_force(row)
    return arrow_rows(CHAMPION, rows)


@dataclass(frozen=True)
class _Judge:
    """Takes the decision of one month."""

    warehouse: Warehouse
    features: Slice
    labels: Slice
    settings: Settings
    plan: Plan
    scorer: Scorer

    def month(self, month: Month, models: list[Model], incumbent: Model | None) -> Row:
        """Row of a month, given its candidates and the champion before it."""
        knobs = self.settings.promotion
        policy = policy_of(self.settings, self.plan)
        ranked = [model for model in models if model.metrics.get(knobs.primary_metric) is not None]
        challenger = challenger_of(ranked, knobs.primary_metric, knobs.tie_tolerance)
        if challenger is not None and incumbent is not None:
            refuse_other_schema(incumbent, challenger)
        evidence = self._measure(month, policy, challenger, incumbent, len(ranked))
        decision = decide(evidence, policy)
        return _row(evidence, policy, decision, challenger if decision.promotes else incumbent)

    def _measure(
        self, month: Month, policy: Policy, challenger: Model | None, incumbent: Model | None, compared: int
    ) -> Evidence:
        knobs = self.settings.promotion
        judged = [model for model in (challenger, incumbent) if model is not None]
        known: Row = {
            "month": month,
            "plan_violations": self.plan.violations(self.settings, challenger.family if challenger else None),
            "force": Force(knobs.forced_by, knobs.force_reason) if knobs.force_deployment else None,
            "compared": compared,
        }
        months = holdout_months(month, (model.fitted_last for model in judged), self.settings)
        if months is None or not judged:
            return Evidence(
                challenger=_contender(challenger, {}),
                incumbent=_contender(incumbent, {}),
                rows=0,
                events=0,
                patients=0,
                **known,
            )
        dataset = read_dataset(self.warehouse, self.features, self.labels, months, f"holdout of {month:%Y-%m}")
        holdout = holdout_of(dataset)
        bootstrap = Bootstrap(knobs.bootstrap_replicates, self.settings.training.seed + month.year * 12 + month.month)

        def scored(model: Model | None) -> Scored | None:
            if model is None or not holdout.rows:
                return None
            return Scored(self.scorer(model, dataset.rows), model.threshold)

        found = measure(
            holdout,
            scored(challenger),
            scored(incumbent),
            policy,
            bootstrap,
            compared=compared,
            small_number=self.settings.privacy.small_number,
        )
        return Evidence(
            challenger=_contender(challenger, found.challenger_metrics),
            incumbent=_contender(incumbent, found.incumbent_metrics),
            rows=holdout.rows,
            events=holdout.events,
            patients=holdout.patient_count,
            holdout_first=months.first,
            holdout_last=months.last,
            difference=found.comparison.difference,
            non_inferiority=found.comparison.non_inferiority,
            lace=found.lace,
            lace_available=holdout.lace is not None,
            subgroups=found.subgroups,
            **known,
        )


def _contender(model: Model | None, metrics: Mapping[str, Estimate]) -> Contender | None:
    if model is None:
        return None
    return Contender(model.model_id, model.family, model.profile, model.month, metrics)


def _row(evidence: Evidence, policy: Policy, decision: Decision, model: Model | None) -> Row:
    contenders = (evidence.challenger, evidence.incumbent)
    in_force = next((each for each in contenders if each and model and each.model_id == model.model_id), None)
    return {
        "month": evidence.month,
        "decision": decision.outcome.value,
        "challenger_id": evidence.challenger.model_id if evidence.challenger else None,
        "incumbent_id": evidence.incumbent.model_id if evidence.incumbent else None,
        "criteria": json.dumps([asdict(criterion) for criterion in decision.criteria], allow_nan=False),
        "metrics": None if in_force is None else _metrics_json(in_force, evidence.rows),
        "reason": decision.reason,
        "holdout_first": evidence.holdout_first,
        "holdout_last": evidence.holdout_last,
        "holdout_rows": evidence.rows,
        "recommendations": json.dumps(decision.recommendations),
        "next_training_date": decision.next_training_date,
        "evidence": Record(evidence, policy).to_json(),
        "plan_hash": policy.plan_hash,
        "model_id": model and model.model_id,
        "family": model and model.family,
        "model_month": model and model.month,
        "artefact_path": model and model.artefact_path,
        "artefact_hash": model and model.artefact_hash,
        "threshold": model and model.threshold,
        "feature_schema_hash": model and model.feature_schema_hash,
        "fitted_last": model and model.fitted_last,
        "profile": model and model.profile,
    }


def _metrics_json(contender: Contender, rows: int) -> str:
    return json.dumps(
        {
            name: {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "n": rows}
            for name, estimate in sorted(contender.metrics.items())
        },
        allow_nan=False,
    )


def _model_in_force(row: Row) -> Model | None:
    """The model of a champion row; the inverse of how the row was made."""
    if row["model_id"] is None:
        return None
    return Model(
        model_id=row["model_id"],
        family=row["family"],
        month=row["model_month"],
        profile=row["profile"],
        fitted_last=row["fitted_last"],
        artefact_path=row["artefact_path"],
        artefact_hash=row["artefact_hash"],
        feature_schema_hash=row["feature_schema_hash"],
        threshold=row["threshold"],
    )


def _champion_before(warehouse: Warehouse, previous: Slice | None, first: dt.date, settings: Settings) -> Model | None:
    """The champion of the month before ``first``; None in the first model month or when none has passed the gates yet.

    Raises:
        ModelError: that month has not been decided, so nobody knows what is in force.
    """
    if first <= settings.first_model_month:
        return None
    before = shift(first, -1)
    rows: list[Row] = []
    if previous is not None:
        warehouse.ensure(CHAMPION)
        with warehouse.read(f"champion of {before:%Y-%m}") as connection:
            rows = (
                connection.execute(f"SELECT * FROM {previous.only(MonthRange(before, before))}")
                .to_arrow_table()
                .to_pylist()
            )
    if not rows:
        raise ModelError(
            f"models.champion has no row for {before:%Y-%m}, so the model in force before {first:%Y-%m} is not known",
            where=CHAMPION.qualified,
            remedy=f"materialise models.champion from {settings.first_model_month:%Y-%m} to {before:%Y-%m} first",
        )
    return _model_in_force(rows[0])
