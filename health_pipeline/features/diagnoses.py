"""Diagnoses: categories and groups of this stay, comorbidities of this stay and the year before.

Comorbidities after Quan 2005 (ICD-9-CM and ICD-10-CM), kept as bit masks while they are gathered.
"""

from __future__ import annotations

from health_pipeline.cohort.sql import icd, literal
from health_pipeline.features.code_lists import Comorbidity, comorbidities, diagnosis_groups
from health_pipeline.features.expressions import cap, has_bit, weighted_sum
from health_pipeline.features.feature import Feature, Kind
from health_pipeline.features.part import Inputs, Part, visible

_STAY = "this stay"
_YEAR = "this stay and the 365 days before the discharge"
_INDEXES = ("charlson", "elixhauser")

# Elixhauser groups that the Charlson index has in nearly the same form: one flag is enough.
_KEPT_ONCE = (
    "diabetes",
    "diabetes_complicated",
    "renal_failure",
    "liver",
    "peptic_ulcer",
    "rheumatoid",
    "solid_tumour",
)

# A milder form does not count beside its severe form (Quan 2005; the usual hierarchy).
_SEVERER = {
    ("charlson", "mild_liver"): "severe_liver",
    ("charlson", "diabetes"): "diabetes_complicated",
    ("charlson", "malignancy"): "metastatic_cancer",
    ("elixhauser", "hypertension"): "hypertension_complicated",
    ("elixhauser", "diabetes"): "diabetes_complicated",
    ("elixhauser", "solid_tumour"): "metastatic_cancer",
}


def _feature(name: str, kind: Kind, sql: str, meaning: str, *, window: str, unit: str | None = None) -> Feature:
    return Feature(name, kind, sql, meaning, "diagnoses", "silver.clinical_events", window, unit=unit)


def _holds(index: str, group: str) -> str:
    bits = {item.group: item.bit for item in comorbidities(index)}
    mask = f"diagnosis.{index}"
    severer = _SEVERER.get((index, group))
    held = has_bit(mask, bits[group])
    return f"({held} AND NOT {has_bit(mask, bits[severer])})" if severer else held


def score(index: str, weight: str = "weight") -> str:
    """Weighted sum over the groups of an index; NULL without any diagnosis.

    Args:
        index: ``charlson`` or ``elixhauser``.
        weight: attribute with the weight of a group: ``weight`` or ``lace_weight``.
    """
    terms = [(_holds(index, item.group), getattr(item, weight)) for item in comorbidities(index)]
    return f"(CASE WHEN diagnosis.{index} IS NOT NULL THEN {weighted_sum(terms)} END)"


def _is_in_charlson(item: Comorbidity) -> bool:
    return item.group in _KEPT_ONCE or item.prefixes in {other.prefixes for other in comorbidities("charlson")}


_FEATURES = (
    _feature(
        "principal_diagnosis",
        "categorical",
        "diagnosis.principal",
        "ICD category (three characters) of the first",
        window=_STAY,
    ),
    _feature(
        "principal_diagnosis_group",
        "categorical",
        "diagnosis.principal_group",
        "clinical group (after AHRQ CCS) or ICD chapter of the principal diagnosis",
        window=_STAY,
    ),
    _feature(
        "secondary_diagnosis_1",
        "categorical",
        "diagnosis.secondary[1].category",
        "ICD category of the first secondary diagnosis, in the order of the source",
        window=_STAY,
    ),
    _feature(
        "secondary_diagnosis_2",
        "categorical",
        "diagnosis.secondary[2].category",
        "ICD category of the second secondary diagnosis",
        window=_STAY,
    ),
    _feature(
        "secondary_diagnosis_1_group",
        "categorical",
        "diagnosis.secondary[1].clinical_group",
        "clinical group of the first secondary diagnosis",
        window=_STAY,
    ),
    _feature(
        "secondary_diagnosis_2_group",
        "categorical",
        "diagnosis.secondary[2].clinical_group",
        "clinical group of the second secondary diagnosis",
        window=_STAY,
    ),
    _feature(
        "diagnosis_count",
        "numeric",
        cap("coalesce(stated.diagnoses, diagnosis.own)", 30),
        "diagnoses of the stay, or as the source counts them; at most 30",
        window=_STAY,
        unit="diagnoses",
    ),
    _feature(
        "charlson_index",
        "numeric",
        score("charlson"),
        "Charlson comorbidity index (Charlson 1987 weights, Quan 2005 codes)",
        window=_YEAR,
        unit="points",
    ),
    _feature(
        "elixhauser_index",
        "numeric",
        score("elixhauser"),
        "Elixhauser comorbidity score (van Walraven 2009 weights, Quan 2005 codes)",
        window=_YEAR,
        unit="points",
    ),
    *(
        _feature(
            f"{index}_{item.group}",
            "boolean",
            _holds(index, item.group),
            f"{index.capitalize()} group: {item.group.replace('_', ' ')}",
            window=_YEAR,
        )
        for index in _INDEXES
        for item in comorbidities(index)
        if index == "charlson" or not _is_in_charlson(item)
    ),
)


def _ctes(inputs: Inputs) -> dict[str, str]:
    # A list of prefixes travels as one text: thousands of literals would cost more than the query itself.
    masks = ", ".join(
        f"({literal(system)}, {literal(index)}, {1 << item.bit}::UBIGINT, {literal(prefixes)})"
        for index in _INDEXES
        for item in comorbidities(index)
        for system, prefixes in _by_system(item.prefixes)
    )
    groups = ", ".join(
        f"({literal(system)}, {order}, {literal(group)}, {literal(prefixes)})"
        for order, (group, members) in enumerate(diagnosis_groups())
        for system, prefixes in _by_system(members)
    )
    return {
        # One row per distinct code: the lists are matched to thousands of codes, not to millions of events.
        "icd_code": f"""
    SELECT code_system, code, {icd("code")} AS icd
    FROM (SELECT DISTINCT code_system, code FROM {inputs.events} WHERE code_system IN ('ICD9CM', 'ICD10CM'))""",
        "icd_prefix": """
    SELECT code_system, code, left(icd, length) AS prefix
    FROM icd_code, (SELECT unnest([1, 2, 3, 4, 5, 6]) AS length)
    WHERE length(icd) >= length""",
        "icd_mask": f"""
    SELECT x.code_system, x.code,
        bit_or(l.mask) FILTER (l.list = 'charlson') AS charlson,
        bit_or(l.mask) FILTER (l.list = 'elixhauser') AS elixhauser
    FROM icd_prefix AS x
    JOIN (
        SELECT code_system, list, mask, unnest(string_split(prefixes, ' ')) AS prefix
        FROM (VALUES {masks}) AS v (code_system, list, mask, prefixes)
    ) AS l USING (code_system, prefix)
    GROUP BY x.code_system, x.code""",
        "icd_group": f"""
    SELECT x.code_system, x.code, arg_max(l.clinical_group, l.place) AS clinical_group
    FROM icd_prefix AS x
    JOIN (
        SELECT code_system, place, clinical_group, unnest(string_split(prefixes, ' ')) AS prefix
        FROM (VALUES {groups}) AS v (code_system, place, clinical_group, prefixes)
    ) AS l USING (code_system, prefix)
    GROUP BY x.code_system, x.code""",
        "icd_meaning": """
    SELECT c.code_system, c.code, coalesce(g.clinical_group, 'other') AS clinical_group,
        -- the external causes of ICD-9 have one more character
        left(c.icd, CASE WHEN c.code_system = 'ICD9CM' AND starts_with(c.icd, 'E') THEN 4 ELSE 3 END) AS category,
        coalesce(m.charlson, 0::UBIGINT) AS charlson, coalesce(m.elixhauser, 0::UBIGINT) AS elixhauser
    FROM icd_code AS c
    LEFT JOIN icd_mask AS m USING (code_system, code)
    LEFT JOIN icd_group AS g USING (code_system, code)""",
        "diagnosis": f"""
    SELECT stay_id, bit_or(charlson) AS charlson, bit_or(elixhauser) AS elixhauser,
        nullif(count(*) FILTER (is_own), 0) AS own,
        arg_min(category, place) FILTER (is_own AND is_principal) AS principal,
        arg_min(clinical_group, place) FILTER (is_own AND is_principal) AS principal_group,
        min({{'place': place, 'category': category, 'clinical_group': clinical_group}}, 2)
            FILTER (is_own AND NOT is_principal) AS secondary
    FROM (
        SELECT s.stay_id, e.encounter_id IS NOT DISTINCT FROM s.encounter_id AS is_own, m.category, m.clinical_group,
            m.charlson, m.elixhauser, coalesce(e.text_value = 'principal', false) AS is_principal,
            -- the position the source gives, else the code, so that the order never depends on storage
            {{'position': coalesce(e.numeric_value, 'inf'::DOUBLE), 'code': e.code, 'at': e.recorded_at}} AS place
        FROM stay AS s
        JOIN {inputs.events} AS e ON {visible("e")}
        JOIN icd_meaning AS m ON m.code_system = e.code_system AND m.code = e.code
        WHERE e.code_system IN ('ICD9CM', 'ICD10CM')
    )
    GROUP BY stay_id""",
    }


def _by_system(prefixes: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    systems: dict[str, list[str]] = {}
    for system, prefix in prefixes:
        systems.setdefault(system, []).append(prefix)
    return [(system, " ".join(members)) for system, members in systems.items()]


PART = Part(_FEATURES, _ctes, ("diagnosis",))
