"""What a failed step says to people: the error at the bottom of Dagster's chain of causes."""

import dagster as dg


def root_cause(event: dg.DagsterEvent) -> str:
    """Message of the first error behind a step failure; "failed" when Dagster recorded none."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "failed"
