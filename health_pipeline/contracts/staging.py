"""From landed text to typed values and the rules they break: the one SQL on which silver and quarantine both stand."""

from __future__ import annotations

from health_pipeline.contracts.declarations import LandingColumn, LandingTable
from health_pipeline.contracts.units import NORMALISED_UNIT_SQL, conversion_rows
from health_pipeline.warehouse.slices import Slice

_BLANKS = "chr(9) || chr(10) || chr(13) || chr(32) || chr(160)"


def staged_sql(table: LandingTable, bronze: Slice | str) -> str:
    """A SELECT with one row for each bronze row.

    Columns: ``month``, the lineage columns, the typed contract columns, each as landed under ``<name>__text`` (trimmed,
    NULL when blank) and ``failed_rule``: the name of the first rule the row breaks, NULL when it is fit for silver.
    Clinical events also carry ``code_system``, ``bare_code``, ``unit`` and the conversion of their unit.
    """
    return f"""
SELECT *, {failed_rule_sql(table)} AS failed_rule
FROM ({_typed_sql(table, bronze)})"""


def failed_rule_sql(table: LandingTable) -> str:
    """CASE expression: name of the first rule that the row breaks."""
    cases = "\n".join(f"  WHEN {rule.fails} THEN '{rule.name}'" for rule in table.all_rules)
    return f"CASE\n{cases}\nEND"


def reasons_sql(table: LandingTable) -> str:
    """Expression: the words of every rule that the row breaks."""
    reasons = ((rule.fails, rule.reason.replace("'", "''")) for rule in table.all_rules)
    cases = ",\n".join(f"  CASE WHEN {fails} THEN '{reason}' END" for fails, reason in reasons)
    return f"concat_ws('; ',\n{cases})"


def _typed_sql(table: LandingTable, bronze: Slice | str) -> str:
    texts = ", ".join(
        f"""nullif(trim("{column.name}", {_BLANKS}), '') AS "{column.name}__text\"""" for column in table.columns
    )
    typed = ",\n  ".join(f'{_typed(column)} AS "{column.name}"' for column in table.columns)
    landed = f"SELECT month, source_file, source_row, row_hash, {texts} FROM {bronze} AS landed"
    sql = f"SELECT *,\n  {typed}\nFROM ({landed}) AS landed"
    return _with_units(sql) if table.name == "clinical_events" else sql


def _typed(column: LandingColumn) -> str:
    text = f'"{column.name}__text"'
    if column.vocabulary:
        return _word(text, column)
    if column.expression:
        text = column.expression.format(text=text)
    match column.type:
        case "BOOLEAN":
            return f"CASE {text} WHEN '1.0' THEN true WHEN '0.0' THEN false ELSE try_cast({text} AS BOOLEAN) END"
        case "DATE":
            return f"CAST(try_cast({text} AS TIMESTAMP) AS DATE)"
        case "VARCHAR":
            return text
    return f"try_cast({text} AS {column.type})"


def _word(text: str, column: LandingColumn) -> str:
    """Lower case with underscores; aliases become the word they stand for."""
    word = f"regexp_replace(lower({text}), '[\\s-]+', '_', 'g')"
    if not column.aliases:
        return word
    cases = " ".join(f"WHEN '{alias}' THEN '{meaning}'" for alias, meaning in sorted(column.aliases.items()))
    return f"CASE {word} {cases} ELSE {word} END"


def _with_units(typed: str) -> str:
    """Split the code and join the conversion to its canonical unit."""
    rows = ", ".join(
        f"('{code}', '{unit}', '{canonical}', {factor!r}, {term!r}, {lowest!r}, {highest!r})"
        for code, unit, canonical, factor, term, lowest, highest in conversion_rows()
    )
    split = f"""
SELECT *,
  nullif(upper(trim(split_part("code", '//', 1))), '') AS code_system,
  nullif(trim(split_part("code", '//', 2)), '') AS landed_code,
  nullif(trim(split_part("code", '//', 3)), '') AS landed_unit,
  CASE WHEN code_system = 'LOINC' THEN landed_code END AS measured,
  coalesce({NORMALISED_UNIT_SQL.format(unit="landed_unit")}, '') AS given_unit
FROM ({typed}) AS typed"""
    # Plain equalities only: any other condition would turn these hash joins into nested loops.
    return f"""
SELECT split.*,
  CASE
    WHEN code_system LIKE 'ICD%' THEN upper(landed_code)
    WHEN code_system IN ('DRUG', 'SOURCE') THEN lower(landed_code)
    ELSE landed_code
  END AS bare_code,
  known.unit AS canonical_unit, conversion.factor, conversion.term, known.lowest, known.highest
FROM ({split}) AS split
LEFT JOIN (
  SELECT DISTINCT loinc, unit, lowest, highest
  FROM (VALUES {rows}) AS conversion(loinc, given, unit, factor, term, lowest, highest)
) AS known ON known.loinc = measured
LEFT JOIN (VALUES {rows}) AS conversion(loinc, given, unit, factor, term, lowest, highest)
  ON conversion.loinc = measured AND conversion.given = given_unit"""
