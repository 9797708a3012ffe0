"""Writes docs/features.md from the catalogue: ``python -m health_pipeline_tests.features.page``."""

# ruff: noqa: E501 (prose and tables)

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from health_pipeline.features import FEATURES, LOOKBACK_MONTHS, Feature
from health_pipeline.features.catalogue import VERSION
from health_pipeline.features.code_lists import citation

PAGE = Path(__file__).parents[2] / "docs" / "features.md"

INTRODUCTION = """# Features

*This page is written from the catalogue: `python -m health_pipeline_tests.features.page`.*

`gold.features` has one row for each index admission (see [cohort](cohort.md)) and {count} features (catalogue version {version}).
The prediction moment is the discharge, and every source is cut there:

- A row counts when its **as-of** column lies at or before `discharged_at`: `recorded_at`, for claims `processed_at`, for
  earlier stays `discharged_at`. When a fact *happened* decides nothing: a result that comes after the discharge is not seen.
- Windows are fixed and look back at most 365 days from the discharge; rows landed in the month itself and the
  {earlier} months before are read, never more. A feature does not depend on how much history a file happens to hold.
- No statistic spans patients or the extract: each row is made from its own patient only. What has to be learned from
  many rows (scaling, rare categories) is learned by the model, on training rows.
- Unbounded counters are capped, most are logged: they do not drift as histories grow longer.
- A source that is missing makes NULLs, not fewer rows. Counts of prior stays are 0 when there were none; everything that
  needs clinical events or claims is NULL when the patient has none in the window.
- Where a source states counts itself (`SOURCE//prior_inpatient_1y` and the like), they win over what can be derived.
- A claim that was settled again counts once, as it was settled last before the discharge; a ratio of amounts uses the claims
  that say both.

`HEALTH_PIPELINE_FEATURES__DEMOGRAPHICS=false` keeps the group *demographics* from models. The columns stay in the table,
because subgroup gates need them to find an unfair model. Scores and indexes do not use age, sex or race.

## Adding a feature

Declare it in the module of its source in `health_pipeline/features/` (name, kind, SQL, meaning, window, as-of rule); the
column, its type, this page and the schema hash follow. Raise `VERSION` in `catalogue.py` when a feature keeps its name and
changes its meaning. Then let the leak detector look at it:

```python
from health_pipeline.features.leakage import assert_no_future

assert_no_future(connection, build, inputs, cut_offs)  # LeakageError names the columns that see the future
```

It erases, then scrambles, everything recorded after each cut-off and asks for bit-identical rows before it. The test suite
runs it on the whole catalogue, and shows that it catches target encoding, counts over the file, the gap to the next stay, and
others. The check `features_see_no_future` does the same on stored rows of every month.

## Checks on `gold.features`

| check | says no when | blocks |
|---|---|---|
| `features_match_cohort` | rows are not exactly the index admissions of the month | yes |
| `features_see_no_future` | rows of a sample of patients change when what was recorded after mid-month is taken away | yes |
| `null_rates_usual` | a feature lacks values as never in the six months before (warns) | no |
| `unseen_categories` | many values that no month of the year before had (warns) | no |

## Code lists

Kept as CSV in `health_pipeline/features/data/`, each with its citation:

{lists}

"""


def render() -> str:
    """The page as Markdown."""
    lists = "\n".join(
        f"- `{name}.csv`: {citation(name)}" for name in ("comorbidities", "diagnosis_groups", "laboratory", "medicines")
    )
    text = INTRODUCTION.format(count=len(FEATURES), version=VERSION, earlier=LOOKBACK_MONTHS - 1, lists=lists)
    return text + "\n".join(_group(name, list(group)) for name, group in groupby(FEATURES, key=lambda item: item.group))


def _group(name: str, features: list[Feature]) -> str:
    lines = [
        f"| `{item.name}` | {item.kind} | {item.meaning} | {item.unit or ''} | {item.window} | `{item.source}`, `{item.as_of}` |"
        for item in features
    ]
    head = "| feature | kind | meaning | unit | window | source, as of |\n|---|---|---|---|---|---|"
    return f"## {name.capitalize()}\n\n{head}\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
