"""The change-control plan: what may change without a new review, how it is tested, what it must reach."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from health_pipeline.errors import SettingsError

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

Band = tuple[float, float]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the plan; a word it does not know is refused."""


class Identity(_Strict, frozen=True):
    """``[plan]``: which plan this is."""

    version: str
    purpose: str


class MayChange(_Strict, frozen=True):
    """``[may_change]``: changes that need no new review."""

    families: tuple[str, ...]
    profiles: tuple[str, ...]
    feature_schema: str


class Protocol(_Strict, frozen=True):
    """``[protocol]``: how a change is tested; settings may be stricter, never laxer."""

    holdout: str
    holdout_months_at_least: int
    min_samples_at_least: int
    confidence_level_at_least: float
    max_degradation_at_most: float
    leak_ceiling_at_most: float
    bootstrap_replicates_at_least: int


class Acceptance(_Strict, frozen=True):
    """``[acceptance]``: what any model must reach; bands are inclusive."""

    calibration_slope: Band
    calibration_intercept: Band
    observed_expected: Band
    subgroup_min_rows: int
    subgroup_min_events: int
    subgroup_discrimination_gap: float
    subgroup_observed_expected: Band
    subgroup_loss: float
    top_decile_capture_above: float
    top_decile_capture_loss: float


@dataclass(frozen=True)
class Plan:
    """A plan as read, with the text it was read from."""

    identity: Identity
    may_change: MayChange
    protocol: Protocol
    acceptance: Acceptance
    text: str

    @cached_property
    def content_hash(self) -> str:
        """BLAKE2b of the text, 32 hex digits."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()

    def violations(self, settings: Settings, family: str | None) -> tuple[str, ...]:
        """What the plan does not allow about these settings and a challenger of this family."""
        protocol, knobs = self.protocol, settings.promotion
        found = [
            f"{name} is {actual}, the plan allows {word} {limit}"
            for name, actual, broken, word, limit in (
                _floor("holdout_months", settings.windows.holdout_months, protocol.holdout_months_at_least),
                _floor("min_samples", knobs.min_samples, protocol.min_samples_at_least),
                _floor("confidence_level", knobs.confidence_level, protocol.confidence_level_at_least),
                _floor("bootstrap_replicates", knobs.bootstrap_replicates, protocol.bootstrap_replicates_at_least),
                _ceiling("max_degradation", knobs.max_degradation, protocol.max_degradation_at_most),
                _ceiling("leak_ceiling", knobs.leak_ceiling, protocol.leak_ceiling_at_most),
            )
            if broken
        ]
        if family is not None and family not in self.may_change.families:
            found.append(f"family {family} is not one the plan lets change")
        return tuple(found)


def _floor(name: str, actual: float, limit: float) -> tuple[str, float, bool, str, float]:
    return name, actual, not actual >= limit, "no less than", limit


def _ceiling(name: str, actual: float, limit: float) -> tuple[str, float, bool, str, float]:
    return name, actual, not actual <= limit, "no more than", limit


def load_plan(path: Path | None = None) -> Plan:
    """Read a plan file, or the one that comes with the package.

    Raises:
        SettingsError: the file is missing, is no TOML, or says something a plan cannot say.
    """
    where = str(path) if path else "health_pipeline/promotion/plan.toml"
    try:
        text = path.read_text("utf-8") if path else files("health_pipeline.promotion").joinpath("plan.toml").read_text()
        sections = msgspec.convert(tomllib.loads(text), dict[str, dict[str, object]])
        unknown = set(sections) ^ {"plan", "may_change", "protocol", "acceptance"}
        if unknown:
            raise msgspec.ValidationError(f"missing or unknown sections: {', '.join(sorted(unknown))}")
        return Plan(
            identity=msgspec.convert(sections["plan"], Identity),
            may_change=msgspec.convert(sections["may_change"], MayChange),
            protocol=msgspec.convert(sections["protocol"], Protocol),
            acceptance=msgspec.convert(sections["acceptance"], Acceptance),
            text=text,
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"the change-control plan cannot be used: {error}",
            where=where,
            remedy="mend the file, or leave HEALTH_PIPELINE_PROMOTION__PLAN empty for the plan of the package",
        ) from None
