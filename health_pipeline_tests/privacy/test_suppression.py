"""Small numbers are not published."""

import duckdb
import pytest

from health_pipeline.privacy import shown_count, suppress_small
from health_pipeline.privacy.suppression import suppressed_sql


@pytest.mark.parametrize(
    ("count", "kept", "shown"),
    [(0, 0, "0"), (1, None, "<11"), (10, None, "<11"), (11, 11, "11"), (4000, 4000, "4,000"), (None, None, "-")],
)
def test_counts_below_the_limit_are_hidden(count, kept, shown):
    assert suppress_small(count, 11) == kept
    assert shown_count(count, 11) == shown
    assert duckdb.execute(f"SELECT {suppressed_sql('$1::INT', 11)}", [count]).fetchone() == (kept,)
