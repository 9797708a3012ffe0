"""Promotion: proof before a model replaces another.

Evidence is measured (:mod:`~health_pipeline.promotion.measure`), judged by one pure function
(:func:`~health_pipeline.promotion.decision.decide`), recorded in ``models.champion`` and replayed by the gates
(:mod:`~health_pipeline.promotion.checks`). Training, scoring of the batch and shipping live in other rooms.

What computes is looked up at first use: loading the definitions must not pay for numerical libraries.
"""

from typing import TYPE_CHECKING, Any

from health_pipeline.promotion.checks import CHECKS
from health_pipeline.promotion.criteria import Criterion, Outcome
from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import Evidence
from health_pipeline.promotion.tables import CHAMPION

if TYPE_CHECKING:
    from health_pipeline.promotion.champion import champion_months

__all__ = ["CHAMPION", "CHECKS", "Criterion", "Decision", "Evidence", "Outcome", "champion_months", "decide"]


def __getattr__(name: str) -> Any:
    if name != "champion_months":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from health_pipeline.promotion.champion import champion_months

    return champion_months
