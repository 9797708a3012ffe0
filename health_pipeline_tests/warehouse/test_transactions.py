"""Errors of DuckDB as they reach logs and people: which table and column, and never a value."""

import duckdb
import pytest

from health_pipeline.warehouse.transactions import without_values

SECRETS = ("Brien", "8765", "8.765", "4321")


@pytest.mark.parametrize(
    "expression",
    [
        "name::INTEGER",
        "name::TIMESTAMP",
        "strptime(name, '%Y')",
        "amount::DECIMAL(6, 2)",
        "amount::INTEGER",
        "number::DECIMAL(6, 2)",
        "number + 9223372036854775000",
        "number::HUGEINT * 9223372036854775000 * 9223372036854775000",
    ],
)
def test_no_value_is_left_in_an_error(expression: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE patients (name VARCHAR, amount DOUBLE, number BIGINT)")
    connection.execute("INSERT INTO patients VALUES (?, 8765e16, 87654321)", ["O'Brien\n'Brien"])
    with pytest.raises(duckdb.Error) as caught:
        connection.execute(f"SELECT {expression} FROM patients").fetchall()
    said = without_values(caught.value)
    assert any(secret in str(caught.value) for secret in SECRETS), "DuckDB itself shows it"
    assert not any(secret in said for secret in SECRETS), said
    assert said.startswith(type(caught.value).__name__)
