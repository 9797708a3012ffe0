"""Writes docs/cohort.md from the definition and its specification: ``python -m health_pipeline_tests.cohort.page``."""

# ruff: noqa: E501 (prose and tables)

from __future__ import annotations

from pathlib import Path

from health_pipeline.cohort import CHECKS
from health_pipeline.cohort.definition import load_definition
from health_pipeline_tests.cohort.specification import CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "cohort.md"

INTRODUCTION = """# Cohort and outcome

*This page is written from the rules and their tests: `python -m health_pipeline_tests.cohort.page`.*

Which discharges a readmission is predicted for (**index admissions**), and what counts as coming back, is one TOML file:
`health_pipeline/cohort/definitions/cms_30_day.toml`, after the
CMS Hospital-Wide All-Cause Unplanned Readmission measure. Copy it, change it, give it a new `name` or `version`, and point
the setting to it: `HEALTH_PIPELINE_COHORT__DEFINITION=/path/to/mine.toml`. A rule that cannot be read stops the run with
one line that names it.

| table | is |
|---|---|
| `gold.labels` | one row per index admission of a month that has matured, with `cohort_version` (`{version}`: name, version, hash of the rules) |
| `gold.cohort_attrition` | every exclusion by month, in order: `excluded` and `remaining`; step 0 is all discharges; what the last step leaves are the rows of `gold.features` |

Three properties hold whatever the definition says:

- **Eligibility knows no future.** Whether a discharge is an index depends on what was recorded at or before it and had landed
  in its month. So features and predictions exist at once, and training never selects rows by what happened later.
- **No label from an open month.** The outcome of month M is made from stays that landed in M and M+1, when M+1 has landed;
  before that month M has no rows.
- **A range is the sum of its months.** A run of many months gives the rows of as many single runs.

## The rules of `{name}`

| reason | column | values | because |
|---|---|---|---|
{exclusions}
| `under_age` | `birth_date` | younger than {age} at admission | CMS measures are about adults; unknown age: {unknown} |

Outcome: an unplanned stay that begins within {window} days of the discharge. A planned stay that comes first ends the window:
{ends}. Planned is what the source says (`is_planned`); where it says nothing, admissions of type {types}; and always stays with
a principal diagnosis beginning with {diagnoses}. Death after the discharge: {death}.

## Where it departs from the CMS measure

- CMS merges transfers and same-day returns after the fact, and drops the first discharge. Here the first discharge stays an
  index admission when nobody knew of the continuation at that moment (a prediction was made for it); the continuation
  just does not count as a readmission. Discharges *called* transfers are no index, as with CMS.
- CMS tells planned stays by procedures and diagnoses (planned readmission algorithm 4.0). Here the flag of the source comes
  first, then the admission type and the always-planned diagnoses above.
- CMS excludes cancer treatment, psychiatric and rehabilitation stays, and asks for a year of prior enrolment. These depend on
  the payer's data; add an exclusion by `service` or `payer` where they matter.

## What the labels cannot see

Stays land in the month of their discharge and labels mature when M+1 has closed. A readmission is therefore missed when it is
still in hospital at the end of M+1, or begins in March after a discharge of 30 or 31 January. {limits}

## Checks

| check | on | says no when | blocks |
|---|---|---|---|
{checks}

## The rules, by example

Each table is a test. `expected` is what the label store says: `readmitted` with its date, `not readmitted`, `no index` with the
reason, or `open`. Months up to {closed} have landed unless said otherwise, stays end at home and admissions are emergencies in one
facility where a table has no such column.

"""

LIMITS = """Measured on 33 months of the simulated hospital
(`benchmarks/cohort/label_visibility.py`, 26,898 index discharges): 64 of 4,119 readmissions, 1.6 %, are not seen; all of them
follow discharges after the 20th (3.9 % of theirs); for January it is 3.3 %. The same rule makes the labels for
training, judging and monitoring, so comparisons are fair; observed rates are low by that much."""


def render() -> str:
    """The page as Markdown."""
    definition = load_definition("cms_30_day")
    index, outcome = definition.index, definition.outcome
    exclusions = "\n".join(
        f"| `{item.reason}` | `{item.column}` | {', '.join(f'`{value}`' for value in item.values)} | {item.because} |"
        for item in index.exclusions
    )
    text = INTRODUCTION.format(
        version=definition.cohort_version,
        name=definition.name,
        exclusions=exclusions,
        age=index.min_age_years,
        unknown="kept" if index.unknown_age == "keep" else "excluded",
        window=outcome.window_days,
        ends="yes" if outcome.planned.ends_window else "no",
        types=", ".join(f"`{value}`" for value in outcome.planned.admission_types_when_unstated),
        diagnoses=", ".join(f"`{value}`" for value in outcome.planned.diagnoses),
        death={"ignored": "not a readmission", "counted": "counts like a readmission"}[outcome.death],
        closed="April 2022",
        limits=LIMITS,
        checks="\n".join(
            f"| `{check.name}` | `{check.table}` | this does not hold: {check.description}"
            f" | {'yes' if check.blocking else 'no'} |"
            for check in CHECKS
        ),
    )
    return text + "\n".join(_case(case) for case in CASES)


def _case(case: Case) -> str:
    rows = case.rows
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(row[name] for name in names) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    notes = [f"`{rule} = {_toml(value)}`" for rule, value in case.changes.items()]
    notes += [f"{patient} was born on {day}" for patient, day in case.born.items()]
    notes += [f"{patient} died on {day}" for patient, day in case.died.items()]
    if case.closed != "2022-04":
        notes.append(f"the last month that has landed is {case.closed}")
    said = f"\n{'; '.join(notes)}.\n" if notes else ""
    return f"### {case.title}\n\n{case.why}\n{said}\n{table}\n"


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
