"""Groups of patients for which performance is told apart, from columns of ``gold.features``: those of the gates."""

from __future__ import annotations

from collections.abc import Sequence

_AGE_BANDS = ((18, "0-17"), (45, "18-44"), (65, "45-64"), (80, "65-79"))
_AGE_COLUMNS = ("age", "age_years", "age_at_discharge")
_COLUMNS = ("sex", "race", "payer")


def segment_sql(columns: Sequence[str], alias: str) -> dict[str, str]:
    """SQL expression of each characteristic that the columns offer; NULL becomes ``unknown``.

    Args:
        columns: columns of the features relation.
        alias: its alias in the query.
    """
    found: dict[str, str] = {}
    age = next((name for name in _AGE_COLUMNS if name in columns), None)
    if age is not None:
        bands = " ".join(f"WHEN {alias}.{age} < {limit} THEN '{name}'" for limit, name in _AGE_BANDS)
        found["age_band"] = f"CASE WHEN {alias}.{age} IS NULL THEN 'unknown' {bands} ELSE '80+' END"
    for name in _COLUMNS:
        if name in columns:
            found[name] = f"coalesce({alias}.{name}::VARCHAR, 'unknown')"
    return found
