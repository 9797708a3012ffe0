"""``docs/contracts.md``, written from the declarations.

Write it anew with ``python -m health_pipeline.contracts.reference > docs/contracts.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from health_pipeline.contracts.checks import CHECKS
from health_pipeline.contracts.declarations import LandingColumn, LandingTable
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.contracts.units import MEASUREMENTS, Measurement
from health_pipeline.contracts.vocabulary import CODE_SYSTEMS

_INTRODUCTION = """\
# Landing contract

<!-- Written by health_pipeline/contracts/reference.py from the declarations; a test compares. Do not edit by hand. -->

A source delivers one file for each table and month: `<landing>/<table>/<YYYY-MM>.parquet`, `.csv` or `.csv.gz`, in a
local folder (`<home>/landing`) or under `s3://bucket/prefix` (setting `HEALTH_PIPELINE_LANDING`; the usual `AWS_*`
variables apply). CSV is UTF-8, comma separated, quoted by RFC 4180, with a header. Columns may stand in any order and
in upper or lower case; columns that the contract does not know are kept in `bronze.*.extra`. Times are hospital local
time without zone: an offset in a text is dropped, an instant with zone in Parquet is written in UTC. An empty text is
no value.

## What happens to what

| landed | result |
|---|---|
| file of `admissions` missing for a month or without rows | the run stops before anything is replaced (1) |
| any file empty, cut off, corrupt or without a required column; two files for one month | the same (1) |
| whole table or month of a feature source missing | empty slice, its features are null, check `source_present` warns |
| optional column missing | no value; check `schema_matches` warns where the months before had it |
| row that breaks a rule below | `quarantine.rejected_rows`, with file, row number, rule and reason, without values |
| row whose key a later row of the same file repeats | not in silver; counted as deduplicated |
| every other row | `silver.<table>` |

(1) One error names every such month of the run, the cause and the remedy.

For every table and month `landed = silver + quarantined + deduplicated` holds exactly; the blocking check
`counts_balance` counts it from the three stored tables. A word outside a vocabulary never stops a row: silver keeps it
in lower case with underscores, the check `vocabulary_known` reports how many there are.

A corrected or late file is put in place of the old one, and its month is run again (by the sensor, or by
`health-pipeline restated rerun`). Its check `restated` then names the later months and the champion decisions that rest
on what it was, `health-pipeline restated list` shows them all, and `restated rerun` makes features and labels again;
with `--decisions` models, decisions and predictions too. `health-pipeline quarantine list`
shows what is held back and why, `health-pipeline quarantine retry` runs the months that a mended file or rule changes.

Patient ids become `patient_key` in silver: the first 32 hex digits of HMAC-SHA-256 under the key
`HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY`, or, without one, under a random key in `<home>/pseudonym.key` (readable by its
owner only). Keep that key: with another one the same patients look new. Postal codes are cut to three characters.
"""


def render() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *(_table(table) for table in LANDING_TABLES.values()), _codes(), _units(), _checks()]
    return "\n".join(parts)


def _table(table: LandingTable) -> str:
    source = "Label source" if table.is_label_source else "Feature source"
    facts = [
        f"{source}. Contract version {table.version}. Key: {_names(table.key)}; of equal keys the last row counts."
    ]
    if table.month_column:
        facts.append(f"The month of `{table.month_column}` names the file.")
    return "\n".join(
        [
            f"## {table.name}\n",
            f"{table.description}\n",
            f"{' '.join(facts)}\n",
            _grid(
                ("column", "type", "column required", "value required", "meaning"),
                (
                    (
                        f"`{column.name}`",
                        column.type,
                        "yes" if column.required else "",
                        "" if column.nullable else "yes",
                        _meaning(column),
                    )
                    for column in table.columns
                ),
            ),
            f"\n### Rules of {table.name}\n",
            _grid(("rule", "a row is quarantined when"), ((f"`{rule.name}`", rule.reason) for rule in table.all_rules)),
            "",
        ]
    )


def _meaning(column: LandingColumn) -> str:
    words = [column.description]
    if column.unit:
        words.append(f"unit: {column.unit}")
    if column.vocabulary:
        words.append(f"words: {_names(column.vocabulary)}")
    if column.aliases:
        words.append("also: " + ", ".join(f"`{alias}` {word}" for alias, word in sorted(column.aliases.items())))
    return "; ".join(words)


def _codes() -> str:
    rows = ((f"`{system}`", meaning) for system, meaning in CODE_SYSTEMS.items())
    return "\n".join(["## Code systems of clinical events\n", _grid(("system", "meaning"), rows), ""])


def _units() -> str:
    introduction = (
        "Silver holds these measurements in one unit. A code without a unit is taken as canonical. A unit that is not "
        "listed, and a value outside the bounds (in the canonical unit), is quarantined. Other LOINC codes pass "
        "as landed."
    )
    rows = (
        (
            item.name.replace("_", " "),
            ", ".join(item.loinc),
            f"`{item.unit}`",
            f"{item.lowest:g} to {item.highest:g}",
            _accepted(item),
        )
        for item in MEASUREMENTS
    )
    head = ("measurement", "LOINC", "canonical unit", "possible", "also accepted (factor)")
    return "\n".join(["## Units\n", f"{introduction}\n", _grid(head, rows), ""])


def _checks() -> str:
    rows = (
        (f"`{check.table}`", f"`{check.name}`", "yes" if check.blocking else "", check.description) for check in CHECKS
    )
    return "\n".join(
        [
            "## Checks\n",
            "One verdict for each month. Only a blocking check keeps what follows from running; the others warn. Their "
            "limits are the settings `HEALTH_PIPELINE_QUALITY__*`.\n",
            _grid(("table", "check", "blocking", "guards"), rows),
            "",
        ]
    )


def _accepted(item: Measurement) -> str:
    same = [f"`{unit}`" for unit in item.spellings]
    converted = [
        f"`{each.unit}` ({each.factor:.6g}{f' {each.term:+.6g}' if each.term else ''})" for each in item.conversions
    ]
    return ", ".join([*same, *converted])


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(render())
