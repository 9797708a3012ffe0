"""The cohort definition: a TOML file that says who is looked at and what counts as coming back."""

from __future__ import annotations

import hashlib
import json
import tomllib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from health_pipeline.errors import SettingsError

Prefix = Annotated[str, Field(pattern=r"^[0-9A-Z]{1,7}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Days = Annotated[int, Field(ge=-1, le=30)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Exclusion(_Part):
    """One reason why a discharge is no index: ``column`` of the stay holds one of ``values``."""

    reason: Name
    column: Literal[
        "discharge_disposition", "admission_type", "admission_source", "service", "payer", "drg", "facility_id"
    ]
    values: tuple[str, ...] = Field(min_length=1)
    because: str


class IndexRules(_Part):
    """Who is looked at; decided at the moment of discharge."""

    min_age_years: int = Field(18, ge=0, le=120)
    unknown_age: Literal["keep", "exclude"] = "keep"
    principal_diagnoses: tuple[Prefix, ...] = ()
    days_since_last_discharge: int = Field(0, ge=0, le=31)
    exclusions: tuple[Exclusion, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> IndexRules:
        reasons = [exclusion.reason for exclusion in self.exclusions]
        if len(set(reasons)) != len(reasons):
            raise ValueError("every exclusion needs its own reason")
        return self


class PlannedRules(_Part):
    """Which later stays were planned."""

    ends_window: bool = True
    admission_types_when_unstated: tuple[str, ...] = ()
    diagnoses: tuple[Prefix, ...] = ()


class ContinuationRules(_Part):
    """Which later stays continue the one before."""

    same_day: bool = True
    transfer_in_days: Days = 1


class OutcomeRules(_Part):
    """What counts as coming back."""

    window_days: int = Field(30, ge=1, le=30, description="label maturity is built on at most 30 days")
    death: Literal["ignored", "counted"] = "ignored"
    source_outcome: Literal["preferred", "ignored"] = "preferred"
    planned: PlannedRules = PlannedRules()
    continuation: ContinuationRules = ContinuationRules()


class Definition(_Part):
    """A named, versioned cohort and outcome."""

    name: Name
    version: str = Field(pattern=r"^[0-9A-Za-z.]+$")
    title: str
    index: IndexRules
    outcome: OutcomeRules

    @property
    def cohort_version(self) -> str:
        """``<name>-<version>-<hash>``; the hash changes with every rule, announced or not."""
        content = json.dumps(self.model_dump(mode="json", exclude={"title"}), sort_keys=True)
        return f"{self.name}-{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def built_in_definitions() -> tuple[str, ...]:
    """Names of the definitions that come with the package."""
    folder = resources.files(__package__) / "definitions"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def parse_definition(text: str, where: str) -> Definition:
    """Read a definition from TOML text.

    Raises:
        SettingsError: names the rule that cannot be read.
    """
    try:
        return Definition.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {error}", where=where, remedy="see docs/cohort.md") from None
    except ValidationError as error:
        first = error.errors()[0]
        rule = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"rule {rule}: {first['msg']}", where=where, remedy="see docs/cohort.md") from None


def load_definition(name: str) -> Definition:
    """A built-in definition by name, or a TOML file by path.

    Raises:
        SettingsError: no such definition, or a rule that cannot be read.
    """
    if name in built_in_definitions():
        return _built_in(name)
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise SettingsError(
            f"no cohort definition {name!r}",
            where="HEALTH_PIPELINE_COHORT__DEFINITION",
            remedy=f"use one of {', '.join(built_in_definitions())} or the path of a TOML file",
        )
    return parse_definition(path.read_text(encoding="utf-8"), name)


@lru_cache
def _built_in(name: str) -> Definition:
    text = (resources.files(__package__) / "definitions" / f"{name}.toml").read_text(encoding="utf-8")
    return parse_definition(text, name)
