"""Finance: claims of the year before that had been processed at the discharge. That of the stay itself rarely is."""

from __future__ import annotations

from health_pipeline.features.expressions import capped_log, ratio
from health_pipeline.features.feature import Feature
from health_pipeline.features.part import Inputs, Part, visible


def _feature(name: str, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(
        name,
        "numeric",
        sql,
        meaning,
        "finance",
        "silver.claims",
        "claims processed in the 365 days before the discharge",
        "processed_at",
        unit,
    )


# Ratios of sums: over the claims that say both amounts, else one sum holds money that the other does not.
_RATIOS = (
    ("payer_coverage_ratio", "payer_paid", "allowed", "paid by the payer / allowed"),
    ("out_of_pocket_ratio", "patient_paid", "allowed", "paid by the patient / allowed"),
    ("allowed_to_charge_ratio", "allowed", "charged", "allowed / charged"),
)

_FEATURES = (
    _feature("claim_count_log", capped_log("claim.claims", 200), "natural log of 1 + claims, at most 200"),
    _feature(
        "charged_log", "CASE WHEN claim.charged >= 0 THEN ln(1 + claim.charged) END", "natural log of 1 + charges"
    ),
    *(_feature(name, ratio(f"claim.{name}_part", f"claim.{name}_whole"), meaning) for name, _, _, meaning in _RATIOS),
    _feature("denial_rate", ratio("claim.denied", "claim.decided"), "denied claims / claims with a decision"),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    sums = ",\n        ".join(
        f"{_sum(part, where=whole)} AS {name}_part, {_sum(whole, where=part)} AS {name}_whole"
        for name, part, whole, _ in _RATIOS
    )
    return {
        "claim": f"""
    SELECT stay_id, count(*) AS claims, {_sum("charged", where="charged")} AS charged,
        {sums},
        count(*) FILTER (denied) AS denied, count(denied) AS decided
    FROM (
        SELECT s.stay_id, c.charged, c.allowed, c.payer_paid, c.patient_paid, c.denied
        FROM stay AS s
        JOIN {inputs.claims} AS c ON {visible("c", as_of="processed_at")}
        -- amounts are net: a claim that was settled again counts as it was settled last
        QUALIFY row_number() OVER (PARTITION BY s.stay_id, c.claim_id ORDER BY c.processed_at DESC, c.month DESC) = 1
    )
    GROUP BY stay_id"""
    }


def _sum(amount: str, where: str) -> str:
    # Money is rounded to the cent: a floating sum would depend on the order of the rows.
    return f"(sum({amount}::DECIMAL(18, 2)) FILTER ({where} IS NOT NULL))::DOUBLE"


PART = Part(_FEATURES, _ctes, ("claim",))
