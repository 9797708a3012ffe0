"""Medicines of the stay: classes, counts and changes, and the state of each common diabetes drug."""

from __future__ import annotations

from health_pipeline.cohort.sql import literal
from health_pipeline.features.code_lists import medicine_classes
from health_pipeline.features.expressions import cap, has_bit
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

_WINDOW = "this stay"
_SYSTEMS = "('RXNORM', 'DRUG')"
# Drugs whose own state is kept, by generic name.
DRUGS = (
    "insulin",
    "metformin",
    "glipizide",
    "glyburide",
    "glimepiride",
    "pioglitazone",
    "rosiglitazone",
    "repaglinide",
    "nateglinide",
    "acarbose",
)
_CHANGES = ("up", "down", "started", "stopped")
# Classes without a flag: their state is kept as that of the drug, or they matter little for coming back.
_WITHOUT_FLAG = ("insulin", "biguanide", "calcium_blocker", "thiazide", "acid_suppressant")


def _feature(name: str, kind: Kind, sql: str, meaning: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "medicines", "silver.clinical_events", _WINDOW, unit=unit)


_FEATURES = (
    _feature(
        "medicine_count",
        "numeric",
        cap("coalesce(stated.medications, medicine.medicines)", 60),
        "different medicines, or as the source counts them; at most 60",
        "medicines",
    ),
    _feature("medicine_class_count", "numeric", "bit_count(medicine.classes)", "different medicine classes", "classes"),
    *(
        _feature(f"medicines_{change}", "numeric", cap(f"medicine.{change}", 10), f"medicines with state '{change}'")
        for change in _CHANGES
    ),
    *(
        _feature(
            f"has_{item.name}",
            "boolean",
            has_bit("medicine.classes", item.bit),
            f"medicine of the class {item.name.replace('_', ' ')}",
        )
        for item in medicine_classes()
        if item.name not in _WITHOUT_FLAG
    ),
    *(
        _feature(
            f"{drug}_state",
            "categorical",
            # medicines are known and this one is not among them: not given; nothing known: NULL
            f"CASE WHEN medicine.medicines > 0 OR stated.diabetes_medication IS NOT NULL"
            f" THEN coalesce(medicine.{drug}, 'no') END",
            f"state of {drug}: steady, up, down, started, stopped, given, or no",
        )
        for drug in DRUGS
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    by_name = ", ".join(
        f"({literal(name)}, {1 << item.bit}::UBIGINT)" for item in medicine_classes() for name in item.names
    )
    changes = ",\n        ".join(f"count(*) FILTER (state = '{change}') AS {change}" for change in _CHANGES)
    drugs = ",\n        ".join(
        f"arg_max(coalesce(state, 'given'), place) FILTER (list_contains(generics, {literal(drug)})) AS {drug}"
        for drug in DRUGS
    )
    by_code = ", ".join(
        f"({literal(code)}, {1 << item.bit}::UBIGINT, {literal(drug) if drug else 'NULL'})"
        for item in medicine_classes()
        for code, drug in item.rxnorm
    )
    return {
        "medicine_code": f"""
    SELECT DISTINCT code_system, code, lower(trim(code)) AS name
    FROM {inputs.events} WHERE code_system IN {_SYSTEMS}""",
        "medicine_mask": f"""
    SELECT code_system, code, bit_or(mask) AS mask, list(DISTINCT generic) FILTER (generic IS NOT NULL) AS generics
    FROM (
        SELECT c.code_system, c.code, l.mask, l.word AS generic
        FROM (
            SELECT code_system, code, unnest(regexp_split_to_array(name, '[^a-z]+')) AS word
            FROM medicine_code WHERE code_system = 'DRUG'
        ) AS c
        JOIN (VALUES {by_name}) AS l (word, mask) ON l.word = c.word
        UNION ALL
        SELECT c.code_system, c.code, l.mask, l.generic
        FROM medicine_code AS c JOIN (VALUES {by_code}) AS l (code, mask, generic) ON l.code = c.code
        WHERE c.code_system = 'RXNORM'
    )
    GROUP BY code_system, code""",
        "medicine": f"""
    SELECT stay_id, count(DISTINCT code) AS medicines, bit_or(mask) AS classes,
        {changes},
        {drugs}
    FROM (
        SELECT s.stay_id, e.code, coalesce(m.mask, 0::UBIGINT) AS mask, m.generics,
            lower(trim(e.text_value)) AS state,
            {{'time': e.time, 'at': e.recorded_at, 'state': e.text_value}} AS place
        FROM stay AS s
        JOIN {inputs.events} AS e ON {visible("e")} AND e.encounter_id = s.encounter_id
        LEFT JOIN medicine_mask AS m ON m.code_system = e.code_system AND m.code = e.code
        WHERE e.code_system IN {_SYSTEMS}
    )
    GROUP BY stay_id""",
    }


PART = Part(_FEATURES, _ctes, ("medicine",))
