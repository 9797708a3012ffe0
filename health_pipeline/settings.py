"""Every knob of the pipeline: typed, with its default and meaning, read once from environment and TOML.

Environment: ``HEALTH_PIPELINE_<NAME>``, sections with two underscores (``HEALTH_PIPELINE_WINDOWS__HOLDOUT_MONTHS``).
File: ``HEALTH_PIPELINE_CONFIG``, or ``settings.toml`` in the home. The environment wins over the file.
"""

from __future__ import annotations

import datetime as dt
import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as UnreadableError

from health_pipeline.errors import SettingsError
from health_pipeline.months import Month, MonthRange, parse_month, shift

PREFIX = "HEALTH_PIPELINE_"


def _read_month(value: Any) -> Any:
    if isinstance(value, dt.date) and value.day != 1:  # a date of the settings file
        raise ValueError(f"not a month: {value} (expected YYYY-MM)")
    return parse_month(value) if isinstance(value, str) else value


MonthSetting = Annotated[Month, BeforeValidator(_read_month)]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]


def _without_empty(model: type[BaseModel], values: Any) -> Any:
    """Values without the empty texts of settings that may be empty: a variable cannot say ``None``, nor "no address".

    An empty secret stays, and is refused where it is used: it was meant to be given, nothing else may take its place.
    """
    if not isinstance(values, dict):
        return values
    empty = {
        name: field.default
        for name, field in model.model_fields.items()
        if field.default == () or (field.default is None and not _is_secret(field))
    }
    return {name: empty.get(name, value) if value == "" else value for name, value in values.items()}


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_nothing(cls, values: Any) -> Any:
        return _without_empty(cls, values)


class SimulatorSettings(Section):
    """The built-in hospital."""

    seed: int = Field(7, description="seed of everything random in the simulated hospital")
    admissions_per_month: PositiveCount = Field(800, description="average number of discharges a month")
    dirt_rate: Rate = Field(0.004, description="share of landed rows with realistic faults")
    drift: bool = Field(True, description="play the documented script of drift events")


class IngestSettings(Section):
    """Adapters of foreign formats."""

    options: dict[str, bool | int | float | str] = Field(
        {}, description="choices that adapters offer, by name (docs/adapters.md), such as all_stays of uci"
    )


class WindowSettings(Section):
    """Months a model of month M may see, counted back from M-2."""

    holdout_months: PositiveCount = Field(3, description="months on which gates judge; nothing is fitted on them")
    validation_months: PositiveCount = Field(3, description="tuning, early stopping, calibration, threshold")
    training_months: PositiveCount = Field(36, description="longest training window")
    min_training_months: PositiveCount = Field(6, description="shortest training window: sets the warm-up")

    @model_validator(mode="after")
    def _ordered(self) -> WindowSettings:
        if self.min_training_months > self.training_months:
            raise ValueError("min_training_months must not exceed training_months")
        return self

    @property
    def warm_up_months(self) -> int:
        """Months before the first model month: shortest training, validation, holdout, and the open label month."""
        return self.min_training_months + self.validation_months + self.holdout_months + 1


class TrainingSettings(Section):
    """Model families and how they are fitted."""

    families: tuple[str, ...] = Field(("logistic_regression", "xgboost"), description="families trained each month")
    profile: Literal["quick", "standard", "thorough"] = Field(
        "standard", description="effort; models of the quick profile are refused by the gates"
    )
    seed: int = Field(20_240_101, description="seed of fitting, tuning and bootstrap")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where XGBoost trains")
    threads: Count = Field(0, description="threads for training; 0 takes all cores")
    tune_every_months: PositiveCount = Field(
        12, description="parameters are tuned every so many months and carried over between"
    )
    samples: Count | None = Field(None, description="tuning trials; 0: default parameters; empty: by profile")
    max_rounds: PositiveCount | None = Field(None, description="most boosting rounds; empty: by profile")
    grace_rounds: PositiveCount | None = Field(None, description="rounds before a trial may end; empty: by profile")
    bags: PositiveCount | None = Field(None, description="boosters averaged in one model; empty: by profile")
    replicates: PositiveCount | None = Field(None, description="resamples behind intervals; empty: by profile")
    study_storage: str | None = Field(
        None, description="Optuna storage (postgresql://..., journal:<file>) for resumable, distributed tuning"
    )
    min_rows: PositiveCount = Field(
        500, description="fewer training rows than this: the month is skipped with a reason"
    )
    min_events: PositiveCount = Field(30, description="fewer readmissions than this: the month is skipped")


class CohortSettings(Section):
    """Which cohort and outcome definition is used."""

    definition: str = Field("cms_30_day", description="name of a definition in health_pipeline/cohort, or a TOML path")


class FeatureSettings(Section):
    """Which features a model may see."""

    demographics: bool = Field(True, description="include age, sex, race and other demographics")


class PrivacySettings(Section):
    """Pseudonyms and small numbers."""

    pseudonym_key: SecretStr | None = Field(
        None, description="key of the patient hash; a local key is generated in the home when empty"
    )
    small_number: PositiveCount = Field(11, description="smallest count that is published (CMS cell size rule)")


class QualitySettings(Section):
    """When landed data is called doubtful; breaches warn, nothing is stopped."""

    max_quarantine_rate: Rate = Field(0.02, description="largest share of a table's landed rows in quarantine")
    max_volume_factor: float = Field(3.0, gt=1, description="largest change of rows against the months before")
    min_linked_share: Rate = Field(0.8, description="smallest share of stays that a feature source knows of")
    max_unseen_share: Rate = Field(0.01, description="largest share of values outside a vocabulary")


class WarehouseSettings(Section):
    """Where tables live and what DuckDB may use."""

    backend: Literal["duckdb", "encrypted", "ducklake"] = Field("duckdb", description="storage of the tables")
    memory_limit: str = Field("2GB", description="DuckDB's memory; what exceeds it spills to disk")
    threads: Count = Field(0, description="DuckDB threads; 0 takes all cores")
    lock_timeout_seconds: float = Field(600.0, gt=0, description="longest wait for another process")
    encryption_key: SecretStr | None = Field(None, description="key of the encrypted file")
    catalog: str | None = Field(None, description="DuckLake catalog: a file or postgres:... connection string")
    data_path: str | None = Field(None, description="DuckLake data: a folder or s3://bucket/prefix")


# The measures of ``modeling.metrics`` of which more (or less) is better; of the others a model should be near a target.
ComparedMetric = Literal[
    "accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "brier", "log_loss", "ece",
    "top_decile_precision", "top_decile_lift",
]  # fmt: skip


class PromotionSettings(Section):
    """When a challenger may replace the champion."""

    primary_metric: ComparedMetric = Field("roc_auc", description="metric on which candidates are ranked and compared")
    improvement_threshold: float = Field(0.02, ge=0, description="smallest improvement over production")
    confidence_level: float = Field(0.95, gt=0, lt=1, description="level of the paired interval")
    min_samples: PositiveCount = Field(1000, description="fewest holdout rows a decision may rest on")
    min_events: PositiveCount = Field(50, description="fewest readmissions among them")
    max_days_since_update: PositiveCount = Field(30, description="older champions may be refreshed")
    max_degradation: float = Field(0.01, ge=0, description="largest loss a refresh may cost")
    bootstrap_replicates: PositiveCount = Field(1000, description="patient-clustered replicates")
    leak_ceiling: float = Field(0.85, gt=0.5, le=1, description="AUROC above this raises the leak alarm")
    tie_tolerance: float = Field(0.002, ge=0, description="candidates this close on a metric are tied on it")
    plan: Path | None = Field(None, description="change-control plan; empty: the plan that comes with the package")
    force_deployment: bool = Field(False, description="deploy the best candidate whatever the comparison says")
    forced_by: str = Field("", description="who orders the forced deployment; recorded with the decision")
    force_reason: str = Field("", description="why; recorded with the decision")

    @model_validator(mode="after")
    def _force_is_signed(self) -> PromotionSettings:
        if self.force_deployment and not (self.forced_by.strip() and self.force_reason.strip()):
            raise ValueError("force_deployment needs forced_by and force_reason")
        return self


class MonitoringSettings(Section):
    """When a month is called drifted or degraded."""

    drift_months: PositiveCount = Field(2, description="violating months (n) among ...")
    drift_window: PositiveCount = Field(3, description="... this many (m) that request a retrain, latest included")
    reference_rows: PositiveCount = Field(200_000, description="most reference rows read; more are sampled by hash")
    drift_alpha: float = Field(
        0.01, gt=0, lt=1, description="false discovery rate of the distribution tests of a month"
    )
    psi_warning: float = Field(0.05, ge=0, description="smallest PSI worth a warning, above its chance level")
    psi_alarm: float = Field(0.10, ge=0, description="smallest PSI worth an alarm, above its chance level")
    null_rate_warning: Rate = Field(0.05, description="smallest change of a null rate worth a warning")
    null_rate_alarm: Rate = Field(0.20, description="smallest change of a null rate worth an alarm")
    unseen_warning: Rate = Field(0.01, description="share of rows with a category unknown to the reference: warning")
    unseen_alarm: Rate = Field(0.05, description="share of rows with a category unknown to the reference: alarm")
    rolling_months: tuple[PositiveCount, ...] = Field(
        (1, 3, 6, 12), description="windows of realised performance; 1 and performance_window are always among them"
    )
    bootstrap_replicates: PositiveCount = Field(200, description="patient-clustered replicates of an interval")
    calibration_months: PositiveCount = Field(6, description="matured months that recalibrate estimated performance")
    png: Literal["latest", "all", "off"] = Field(
        "latest", description="months of a run whose figures are exported as PNG beside the dashboard"
    )
    evidently: Literal["latest", "all", "off"] = Field(
        "latest", description="months of a run that get Evidently's drift report beside the dashboard"
    )
    evidently_rows: PositiveCount = Field(2_000, description="most rows of either side in Evidently's report")
    evidently_columns: PositiveCount = Field(30, description="most features in it: those that moved most, by PSI")
    performance_window: PositiveCount = Field(3, description="rolling window whose alarms raise the check to an error")
    concept_warning: float = Field(0.05, gt=0, lt=1, description="p-value of a changed concept below which it warns")
    concept_alarm: float = Field(0.01, gt=0, lt=1, description="p-value of a changed concept below which it alarms")


class MLflowSettings(Section):
    """Model store."""

    tracking_uri: str | None = Field(None, description="MLflow server; default is SQLite in the home")
    experiment: str = Field("readmission", description="experiment and registered-model name")


class ServingSettings(Section):
    """Prediction API."""

    host: str = Field("127.0.0.1", description="address the local API listens on")
    port: int = Field(8080, ge=1, le=65_535, description="port of the local API")
    token: SecretStr | None = Field(
        None, description="bearer token of the API; one is generated in the home when empty (at least 16 characters)"
    )
    open_on_loopback: bool = Field(
        False, description="answer without a token; refused unless host is a loopback address"
    )
    max_body_bytes: PositiveCount = Field(4 * 1024 * 1024, description="larger request bodies are refused")
    max_records: PositiveCount = Field(1000, description="most records in one request")
    max_explained: PositiveCount = Field(50, description="most records with contributions in one request")
    timeout_seconds: float = Field(10.0, gt=0, description="longest wait for a request body, and longest scoring")
    log_flush_seconds: float = Field(
        0.05, gt=0, description="a crash loses at most the logged predictions of this long"
    )


class DeploymentSettings(Section):
    """How a release reaches traffic."""

    target: Literal["local", "kubernetes"] = Field("local", description="where releases are shipped")
    environments: tuple[str, ...] = Field(
        ("production",), min_length=1, description="stages a release passes, the last one being production"
    )
    canary_weights: tuple[Rate, ...] = Field((0.1, 0.5), description="shares of the traffic before the whole of it")
    canary_seconds: float = Field(10.0, ge=0, description="observation of each share")
    health_seconds: float = Field(300.0, gt=0, description="observation after the rollout, before the promotion")
    health_interval_seconds: float = Field(1.0, gt=0, description="pause between two rounds of health requests")
    min_requests: PositiveCount = Field(50, description="fewer requests than this are no data, and no data fails")
    min_success_rate: Rate = Field(0.995, description="smallest share of answered requests")
    max_p99_seconds: float = Field(0.5, gt=0, description="largest 99th percentile of the response time")
    max_shift: float = Field(
        0.25,
        gt=0,
        description="largest stability index of new against former scores, beyond chance on the months judged",
    )
    start_timeout_seconds: float = Field(60.0, gt=0, description="longest time from start to ready")
    rollout_timeout_seconds: float = Field(240.0, gt=0, description="longest rolling update on Kubernetes")
    registry: str | None = Field(None, description="image repository, such as registry.example/team/readmission-api")
    registry_user: str | None = Field(None, description="user of the registry; ECR needs none")
    registry_password: SecretStr | None = Field(None, description="password of the registry; ECR needs none")
    registry_insecure: bool = Field(False, description="speak HTTP to the registry; for a registry on this machine")
    push_attempts: PositiveCount = Field(4, description="tries of a push when the network fails")
    base_image: str = Field("python:3.11-slim", description="base of the API image")
    aws_endpoint: str | None = Field(None, description="endpoint of the ECR API, for tests and private clouds")
    namespace: str = Field(
        "default", description="Kubernetes namespace; the environment's name is appended if not production"
    )
    replicas: PositiveCount = Field(2, description="pods of the API on Kubernetes")
    predictions_claim: str | None = Field(
        None,
        description="ReadWriteMany volume claim that keeps the prediction logs of the API's pods; without it they end "
        "with the pod",
    )
    endpoint: str | None = Field(
        None,
        pattern="^https?://[^/]",
        description="URL at which the API's Service answers the pipeline, {namespace} allowed; "
        "default: its name inside the cluster",
    )
    kube_context: str | None = Field(
        None, description="kubeconfig context; inside a cluster its service account is used"
    )


class NotifySettings(Section):
    """Alerts."""

    urls: tuple[SecretStr, ...] = Field((), description="Apprise addresses every alert goes to")
    warning_urls: tuple[SecretStr, ...] = Field((), description="addresses of warnings and of what is critical")
    critical_urls: tuple[SecretStr, ...] = Field((), description="addresses of what is critical only (a pager)")
    attempts: PositiveCount = Field(8, description="deliveries tried before an alert is given up and shown as failed")
    retry_seconds: float = Field(30.0, gt=0, description="wait after the first failed delivery; doubles each time")
    timeout_seconds: float = Field(10.0, gt=0, description="longest wait for a channel to answer")
    ui_url: str | None = Field(None, description="address of the Dagster UI, for links in alerts")


class Settings(BaseSettings):
    """All settings; see ``docs/reference/settings.md``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    home: Path = Field(Path("data"), description="folder that holds everything the pipeline writes")
    landing: str | None = Field(None, description="landing zone; default <home>/landing; s3://bucket/prefix works too")
    start_month: MonthSetting = Field(parse_month("2022-01"), description="first month of the partitions")
    end_month: MonthSetting | None = Field(
        parse_month("2024-12"), description="last month of the partitions; empty: the last closed month"
    )

    automation: bool = Field(True, description="start sensors and the schedule; false: people start every run")
    log_format: Literal["text", "json"] = Field("text", description="log lines for people or for machines")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")

    simulator: SimulatorSettings = SimulatorSettings()
    ingest: IngestSettings = IngestSettings()
    windows: WindowSettings = WindowSettings()
    training: TrainingSettings = TrainingSettings()
    cohort: CohortSettings = CohortSettings()
    features: FeatureSettings = FeatureSettings()
    privacy: PrivacySettings = PrivacySettings()
    quality: QualitySettings = QualitySettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    promotion: PromotionSettings = PromotionSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    mlflow: MLflowSettings = MLflowSettings()
    serving: ServingSettings = ServingSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    notify: NotifySettings = NotifySettings()

    @model_validator(mode="before")
    @classmethod
    def _empty_is_nothing(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("end_month") == "":
            values = {**values, "end_month": None}
        return _without_empty(cls, values)

    @field_validator("home", mode="before")
    @classmethod
    def _home_is_named(cls, value: Any) -> Any:
        if value == "":  # a path of nothing is the folder that a command happens to be called in
            raise ValueError("empty: name a folder, or unset it for ./data")
        return value

    @field_validator("home", "landing", mode="before")
    @classmethod
    def _tilde_is_the_users_folder(cls, value: Any) -> Any:
        return _expanded(value)

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.end_month is not None and self.end_month < self.start_month:
            raise ValueError(f"end_month {self.end_month:%Y-%m} lies before start_month {self.start_month:%Y-%m}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings hands them in
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _file())

    @cached_property
    def first_model_month(self) -> Month:
        """First month that has enough history for a model."""
        return shift(self.start_month, self.windows.warm_up_months)

    @property
    def months(self) -> MonthRange:
        """Bounded range of the partitions.

        Raises:
            SettingsError: ``end_month`` is open.
        """
        if self.end_month is None:
            raise SettingsError("end_month is open", where=f"{PREFIX}END_MONTH", remedy="name the months of the run")
        return MonthRange(self.start_month, self.end_month)

    @property
    def landing_uri(self) -> str:
        """Folder or S3 prefix with one sub-folder per landing table."""
        return self.landing or str(self.home / "landing")

    @property
    def warehouse_path(self) -> Path:
        """DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def mlflow_uri(self) -> str:
        """Tracking and registry store."""
        return self.mlflow.tracking_uri or f"sqlite:///{(self.home / 'mlflow.db').resolve()}"

    @property
    def outputs(self) -> Path:
        """Figures and reports."""
        return self.home / "outputs"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; a wrong value becomes one clear line.

    Raises:
        SettingsError: names the setting, what it got (unless that may be a secret) and what it accepts.
    """
    remedy = "see docs/reference/settings.md"
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        name = PREFIX + "__".join(path).upper() if path else PREFIX + "*"
        got = "" if _may_be_secret(path, first["input"]) else f", got {first['input']!r}"
        raise SettingsError(f"{name}: {first['msg']}{got}", remedy=remedy) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file is not TOML: {error}", where=str(_file()), remedy=remedy) from None
    except UnicodeDecodeError:
        raise SettingsError("the settings file is not UTF-8", where=str(_file()), remedy="save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(
            f"the settings file cannot be read ({type(error).__name__})",
            where=str(_file()),
            remedy="check its permissions",
        ) from None
    except UnreadableError as error:
        # The message names the setting, or the section of it, and holds no value.
        raise SettingsError(
            str(error), where="environment", remedy=f'lists are JSON, such as \'["a", "b"]\'; {remedy}'
        ) from None


def gives_a_secret(content: bytes) -> bool:
    """Whether a settings file gives a key, a token or a password; one that cannot be read might."""
    try:
        return _names_a_secret(Settings, tomllib.loads(content.decode()))
    except ValueError:
        return True


def _names_a_secret(section: type[BaseModel], values: Mapping[str, Any]) -> bool:
    for name, value in values.items():
        field = section.model_fields.get(name)
        if field is None or not value:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            if isinstance(value, Mapping) and _names_a_secret(field.annotation, value):
                return True
        elif _is_secret(field):
            return True
    return False


def _may_be_secret(path: Sequence[str], value: object) -> bool:
    """Whether a refused value is better not shown: that of a secret, of a whole section, or of an unknown name."""
    if not path or not isinstance(value, str | int | float):
        return True
    section: type[BaseModel] = Settings
    for name in path:
        field = section.model_fields.get(name)
        if field is None:
            return True
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return _is_secret(field)
        section = field.annotation
    return True


def _expanded(path: Any) -> Any:
    """A path with the user's folder for ``~``: no shell does it for a settings file or a service."""
    return os.path.expanduser(path) if isinstance(path, str) else path  # noqa: PTH111  # one without such a user stays


def _file() -> Path:
    """The settings file: one that is named has to be there, that of the home may be missing."""
    file = _expanded(os.environ.get(f"{PREFIX}CONFIG"))
    if file and not Path(file).is_file():
        raise SettingsError("no such settings file", where=file, remedy=f"correct or unset {PREFIX}CONFIG")
    return Path(file) if file else Path(_expanded(os.environ.get(f"{PREFIX}HOME", "data"))) / "settings.toml"
