"""Procedures of the stay."""

from __future__ import annotations

from health_pipeline.features.expressions import cap, capped_log
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

# A stay with any clinical event and no procedure had none; a stay without any event says nothing.
PROCEDURES = "coalesce(stated.procedures, procedure.procedures)"

# Evaluation and management (CPT 99201 to 99499) is how US hospitals bill the visits of every stay: no procedure.
_IS_PROCEDURE = """e.code_system IN ('ICD10PCS', 'ICD9PROC')
            OR e.code_system = 'CPT4' AND left(e.code, 3) NOT IN ('992', '993', '994')"""


def _feature(name: str, kind: Kind, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "procedures", "silver.clinical_events", "this stay", unit=unit)


_FEATURES = (
    _feature(
        "procedure_count",
        "numeric",
        cap(PROCEDURES, 20),
        "different procedures (visits, CPT 99201-99499, are none), or as the source counts them; at most 20",
        "procedures",
    ),
    _feature("event_count_log", "numeric", capped_log("procedure.events", 2000), "natural log of 1 + clinical events"),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    return {
        "procedure": f"""
    SELECT s.stay_id, count(*) AS events,
        count(DISTINCT e.code) FILTER ({_IS_PROCEDURE}) AS procedures
    FROM stay AS s
    JOIN {inputs.events} AS e ON {visible("e")} AND e.encounter_id = s.encounter_id
    GROUP BY s.stay_id"""
    }


PART = Part(_FEATURES, _ctes, ("procedure",))
