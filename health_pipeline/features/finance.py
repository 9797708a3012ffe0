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


_FEATURES = (
    _feature("claim_count_log", capped_log("claim.claims", 200), "natural log of 1 + claims, at most 200"),
    _feature(
        "charged_log", "CASE WHEN claim.charged >= 0 THEN ln(1 + claim.charged) END", "natural log of 1 + charges"
    ),
    _feature("payer_coverage_ratio", ratio("claim.payer_paid", "claim.allowed"), "paid by the payer / allowed"),
    _feature("out_of_pocket_ratio", ratio("claim.patient_paid", "claim.allowed"), "paid by the patient / allowed"),
    _feature("allowed_to_charge_ratio", ratio("claim.allowed", "claim.charged"), "allowed / charged"),
    _feature("denial_rate", ratio("claim.denied", "claim.decided"), "denied claims / claims with a decision"),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    # Sums of money are rounded to the cent: floating sums would depend on the order of the rows.
    return {
        "claim": f"""
    SELECT s.stay_id, count(*) AS claims,
        sum(c.charged::DECIMAL(18, 2))::DOUBLE AS charged,
        sum(c.allowed::DECIMAL(18, 2))::DOUBLE AS allowed,
        sum(c.payer_paid::DECIMAL(18, 2))::DOUBLE AS payer_paid,
        sum(c.patient_paid::DECIMAL(18, 2))::DOUBLE AS patient_paid,
        count(*) FILTER (c.denied) AS denied, count(c.denied) AS decided
    FROM stay AS s
    JOIN {inputs.claims} AS c ON {visible("c", as_of="processed_at")}
    GROUP BY s.stay_id"""
    }


PART = Part(_FEATURES, _ctes, ("claim",))
