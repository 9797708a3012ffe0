"""SQL fragments that several rules share."""

from __future__ import annotations

from collections.abc import Iterable


def literal(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def literals(values: Iterable[str]) -> str:
    """Texts as an SQL list for ``IN (...)``."""
    return ", ".join(literal(value) for value in values)


def icd(code: str) -> str:
    """Expression of an ICD code in comparable form: upper case, no dot, ICD-9 zero-padded to three digits.

    Some sources write ``38`` for the ICD-9 category ``038``.
    """
    upper = f"upper(trim({code}))"
    head = f"split_part({upper}, '.', 1)"
    padded = f"CASE WHEN regexp_full_match({head}, '[0-9]{{1,2}}') THEN lpad({head}, 3, '0') ELSE {head} END"
    return f"({padded} || split_part({upper}, '.', 2))"


def starts_with_any(expression: str, prefixes: Iterable[str]) -> str:
    """Condition: the text begins with one of the prefixes."""
    tests = [f"starts_with({expression}, {literal(prefix)})" for prefix in prefixes]
    return "(" + " OR ".join(tests) + ")" if tests else "false"
