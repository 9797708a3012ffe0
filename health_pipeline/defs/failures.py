"""What a failed step or tick says to people: the error at the bottom of Dagster's chain of causes."""

import dagster as dg
from dagster_shared.error import SerializableErrorInfo


def root_cause(event: dg.DagsterEvent) -> str:
    """Message of the first error behind a step failure; "failed" when Dagster recorded none."""
    error = event.step_failure_data.error
    return cause_of(error) if error is not None else "failed"


def cause_of(error: SerializableErrorInfo) -> str:
    """Message of the first error behind an error."""
    while error.cause is not None:
        error = error.cause
    return error.message.strip()
