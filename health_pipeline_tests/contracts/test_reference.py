"""The page of the contract says what the declarations say."""

from pathlib import Path

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.contracts.checks import CHECKS
from health_pipeline.contracts.reference import render

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "write it anew: python -m health_pipeline.contracts.reference > docs/contracts.md"
    )


def test_the_page_tells_every_column_rule_and_check():
    page = render()
    for table in LANDING_TABLES.values():
        assert f"## {table.name}\n" in page
        assert all(f"| `{column.name}` | {column.type} |" in page for column in table.columns)
        assert all(f"| `{rule.name}` | {rule.reason} |" in page for rule in table.all_rules)
    assert all(f"| `{check.table}` | `{check.name}` |" in page for check in CHECKS)
