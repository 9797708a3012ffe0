"""Privacy: pseudonyms of patients and suppression of small numbers."""

from health_pipeline.privacy.pseudonym import load_key, pseudonym, pseudonym_parameters, pseudonym_sql
from health_pipeline.privacy.suppression import FREE_TEXT, hidden_groups, shown_count, shown_words, suppress_small

__all__ = [
    "FREE_TEXT",
    "hidden_groups",
    "load_key",
    "pseudonym",
    "pseudonym_parameters",
    "pseudonym_sql",
    "shown_count",
    "shown_words",
    "suppress_small",
]
