"""Deployment: from passed gates to live traffic and back.

Belongs here: assets, jobs, the sensor and what a run may set. Does not belong here: what a step does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG
from pydantic import Field

from health_pipeline import deployment, features
from health_pipeline.clock import Clock
from health_pipeline.defs.monthly import Input, asset_key, monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.deployment import HISTORY, STEPS
from health_pipeline.deployment.monthly import step_rows
from health_pipeline.deployment.skips import skip_rows
from health_pipeline.deployment.tables import SKIP_REPORT, STEP_TABLES
from health_pipeline.modeling import model_table
from health_pipeline.months import MonthRange
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Table, Warehouse

DEPLOYMENT_TAG = "health_pipeline/deployment"
ACTOR_TAG = "health_pipeline/actor"
ONE_AT_A_TIME = {DEPLOYMENT_TAG: "true", MAX_RETRIES_TAG: "0"}
"""Dagster itself does not start a dead one again: it would go on in the middle, after traffic was taken back. The
sensor recovers first, and then asks for the whole way."""


class DeploymentOptions(dg.ConfigurableResource[Any]):
    """What a deployment run may set, at ``resources: deployment_options: config``.

    Attributes:
        actor: who asks; the run's ``health_pipeline/actor`` tag or Dagster otherwise.
        improvement_threshold: instead of the policy's, for this run; negative: the policy's.
        force_deployment: deploy against the comparison; recorded with actor and reason.
        force_reason: why.
        skip_api_tests: go on without API tests; recorded.
        notification_channels: Apprise addresses instead of those of the settings; empty: those of the settings.
        rollback_on_failure: take the release back when a step after the rollout fails.
    """

    actor: str = ""
    improvement_threshold: float = -1.0
    force_deployment: bool = False
    force_reason: str = ""
    skip_api_tests: bool = False
    notification_channels: list[str] = Field(default_factory=list)
    rollback_on_failure: bool = True

    def options(self, tags: Mapping[str, str]) -> deployment.Options:
        """Options of the domain."""
        return deployment.Options(
            actor=self.actor or tags.get(ACTOR_TAG) or tags.get("user") or "dagster",
            improvement_threshold=None if self.improvement_threshold < 0 else self.improvement_threshold,
            force_deployment=self.force_deployment,
            force_reason=self.force_reason,
            skip_api_tests=self.skip_api_tests,
            rollback_on_failure=self.rollback_on_failure,
        )


RESOURCES: dict[str, Any] = {"deployment_options": DeploymentOptions.configure_at_launch()}


def build(settings: Settings, partitions: Partitions, clock: Clock) -> list[dg.AssetsDefinition]:
    """The steps, the skip report and the history."""
    families = {family: Input(model_table(family)) for family in settings.training.families}
    first_inputs = {
        "champion": Input(CHAMPION),
        **families,
        "features": Input(features.FEATURE_TABLE, before=settings.windows.holdout_months + 1, after=-1),
    }

    def step_asset(index: int, step: str) -> dg.AssetsDefinition:
        def compute(context: dg.AssetExecutionContext, months: MonthRange, _slices: Mapping[str, Slice]) -> Any:
            resource: DeploymentOptions = context.resources.deployment_options
            tools = deployment.tools_of(settings, clock, resource.notification_channels or None)
            rows = step_rows(
                step,
                Warehouse.from_settings(settings),
                months,
                settings,
                resource.options(context.run.tags),
                tools,
                attempt=context.run.root_run_id or context.run.run_id,
            )
            last = rows[-1]
            context.log.info(f"{step} {months.last:%Y-%m}: {last['outcome']}: {last['summary']}")
            return _stored(STEP_TABLES[step], rows)

        inputs = first_inputs if index == 0 else {"previous": Input(STEP_TABLES[STEPS[index - 1]])}
        return monthly_asset(
            STEP_TABLES[step],
            compute,
            inputs=inputs,
            partitions=partitions.models,
            kinds={"python", "mlflow"} if step in {"registered_model", "promotion"} else {"python"},
            resources={"deployment_options"},
        )

    steps = [step_asset(index, step) for index, step in enumerate(STEPS)]
    report = monthly_asset(
        SKIP_REPORT,
        lambda _context, months, _slices: _stored(
            SKIP_REPORT,
            skip_rows(Warehouse.from_settings(settings), months, deployment.history_of(settings, clock).events()),
        ),
        inputs={"champion": Input(CHAMPION)},
        partitions=partitions.models,
        kinds={"markdown"},
    )
    history = monthly_asset(
        HISTORY,
        lambda _context, months, _slices: _stored(HISTORY, deployment.history_of(settings, clock).rows(list(months))),
        partitions=partitions.models,
        kinds={"python"},
        deps=[dg.AssetDep(asset_key(STEP_TABLES["promotion"])), dg.AssetDep(asset_key(SKIP_REPORT))],
    )
    return [*steps, report, history]


def _stored(table: Table, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as Arrow; the library is imported by the step, not by loading the definitions."""
    from health_pipeline.modeling.rows import arrow_rows

    return arrow_rows(table, rows)


class RollbackConfig(dg.Config):
    """Whereto and why.

    Attributes:
        to: model id; empty goes back to the release promoted before the one that serves.
        actor: who asks.
        reason: why.
    """

    to: str = ""
    actor: str = "dagster"
    reason: str = "rolled back by hand"


def build_jobs(settings: Settings, clock: Clock) -> list[Any]:
    """``deploy``, ``report_skip``, ``mirror_history``, ``rollback`` and ``recover_deployment``."""

    @dg.op(name="roll_back", description="Give all traffic to a former release, verify it, move the aliases.")
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        event = deployment.rollback(
            deployment.tools_of(settings, clock), actor=config.actor, reason=config.reason, to=config.to or None
        )
        context.log.info(f"{event.model_id} serves again after {event.seconds} s")

    @dg.op(name="recover", description="End what an interrupted deployment left half done.")
    def recover(context: dg.OpExecutionContext) -> None:
        event = deployment.recover(deployment.tools_of(settings, clock), "dagster")
        context.log.info("nothing was open" if event is None else f"{event.model_id or 'nothing'} serves again")

    @dg.job(name="rollback", tags=ONE_AT_A_TIME, description="Go back to a former release by hand.")
    def rollback_job() -> None:
        roll_back()

    @dg.job(name="recover_deployment", tags=ONE_AT_A_TIME, description="After a deployment run that was killed.")
    def recovery_job() -> None:
        recover()

    steps = [asset_key(table) for table in STEP_TABLES.values()]
    return [
        dg.define_asset_job(
            "deploy",
            selection=dg.AssetSelection.assets(*steps, asset_key(HISTORY)),
            tags=ONE_AT_A_TIME,
            description="Ship the champion of a month.",
        ),
        dg.define_asset_job(
            "report_skip",
            selection=dg.AssetSelection.assets(asset_key(SKIP_REPORT), asset_key(HISTORY)),
            description="Say why a month's challenger is not deployed.",
        ),
        dg.define_asset_job(
            "mirror_history",
            selection=dg.AssetSelection.assets(asset_key(HISTORY)),
            description="Copy new rows of the deployment history into the warehouse.",
        ),
        rollback_job,
        recovery_job,
    ]


def tables() -> Sequence[Any]:
    """Every table this module fills."""
    return [*STEP_TABLES.values(), SKIP_REPORT, HISTORY]
