"""Silver: bronze rows that keep every rule, typed, in canonical units, pseudonymised, each fact once."""

from __future__ import annotations

from health_pipeline.contracts.declarations import IDENTIFIERS, LandingColumn, LandingTable
from health_pipeline.contracts.staging import staged_sql
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.privacy.pseudonym import load_key, pseudonym_parameters, pseudonym_sql
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query, Slice

_RATIOS = {
    "payer_coverage_ratio": "payer_paid / nullif(allowed, 0)",
    "out_of_pocket_ratio": "patient_paid / nullif(allowed, 0)",
    "allowed_to_charge_ratio": "allowed / nullif(charged, 0)",
}

_EVENT_CODE = """code_system, bare_code AS code, coalesce(canonical_unit, landed_unit) AS unit"""
_EVENT_VALUE = "coalesce(numeric_value * factor + term, numeric_value) AS numeric_value"


def silver_query(name: str, bronze: Slice, settings: Settings) -> Query:
    """Rows of ``silver.<name>`` for the months of the slice.

    Of several rows with the same key within a month the last one of the file counts; the others are counted as
    deduplicated. The key of the patient hash travels as statement parameters.

    Args:
        name: landing table.
        bronze: ``bronze.<name>``.
        settings: gives the key of the patient hash.
    """
    table = LANDING_TABLES[name]
    rows = f"SELECT * FROM ({staged_sql(table, bronze)}) AS staged WHERE failed_rule IS NULL"
    people = f"""
SELECT patient_id AS person, {pseudonym_sql("patient_id")} AS patient_key
FROM (SELECT DISTINCT patient_id FROM accepted) AS people"""
    sql = f"""
WITH accepted AS MATERIALIZED ({rows}),
people AS ({people})
SELECT {"DISTINCT" if _is_whole_row(table) else ""} {_columns(table)}
FROM accepted JOIN people ON accepted.patient_id = people.person
{"" if _is_whole_row(table) else _last_of_key(table)}"""
    return Query(sql, parameters=pseudonym_parameters(load_key(settings)))


def key_sql(table: LandingTable) -> str:
    """Comma-separated SQL of a row's identity within a month, over the staged relation."""
    if table.name == "clinical_events":
        events = ("patient_id", "encounter_id", "time", "recorded_at", "code_system", "bare_code", "text_value")
        return ", ".join(
            (*events, "coalesce(canonical_unit, landed_unit)", "coalesce(numeric_value * factor + term, numeric_value)")
        )
    return ", ".join(table.key)


def _is_whole_row(table: LandingTable) -> bool:
    return set(table.key) == set(table.column_names)


def _last_of_key(table: LandingTable) -> str:
    order = "source_file DESC, source_row DESC"
    return f"QUALIFY row_number() OVER (PARTITION BY month, {key_sql(table)} ORDER BY {order}) = 1"


def _columns(table: LandingTable) -> str:
    columns = ["month", *(_column(column) for column in table.columns)]
    if table.name == "claims":
        columns += [f"{expression} AS {name}" for name, expression in _RATIOS.items()]
    return ", ".join(columns)


def _column(column: LandingColumn) -> str:
    if column.name in IDENTIFIERS:
        return "patient_key"
    match column.name:
        case "code":
            return _EVENT_CODE
        case "numeric_value":
            return _EVENT_VALUE
    return f'"{column.name}"'
