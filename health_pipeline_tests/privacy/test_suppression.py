"""Small numbers are not published."""

import duckdb
import pytest

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.modeling import card
from health_pipeline.monitoring.segments import segment_sql
from health_pipeline.privacy import FREE_TEXT, shown_count, suppress_small
from health_pipeline.privacy.suppression import suppressed_sql
from health_pipeline.promotion import holdout


@pytest.mark.parametrize(
    ("count", "kept", "shown"),
    [(0, 0, "0"), (1, None, "<11"), (10, None, "<11"), (11, 11, "11"), (4000, 4000, "4,000"), (None, None, "-")],
)
def test_counts_below_the_limit_are_hidden(count, kept, shown):
    assert suppress_small(count, 11) == kept
    assert shown_count(count, 11) == shown
    assert duckdb.execute(f"SELECT {suppressed_sql('$1::INT', 11)}", [count]).fetchone() == (kept,)


def test_free_text_is_every_characteristic_of_patients_that_no_contract_limits():
    texts = {
        column.name: column for table in LANDING_TABLES.values() for column in table.columns if column.type == "VARCHAR"
    }
    grouped = {*segment_sql(list(texts), "f"), *card.GROUPED_BY, *holdout.ATTRIBUTES} - {"age_band"}
    assert {name for name in grouped if not texts[name].vocabulary} == FREE_TEXT
