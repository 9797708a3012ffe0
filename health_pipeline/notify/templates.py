"""Every text the pipeline sends, in one place. Each function turns the facts of an event into an alert."""

from __future__ import annotations

from collections.abc import Sequence

from health_pipeline.notify.alert import Alert, Severity, event_id

Links = tuple[tuple[str, str], ...]


def check_failed(
    *,
    check: str,
    asset: str,
    partition: str | None,
    severity: str,
    summary: str,
    evaluation: str,
    told_since: str | None = None,
    links: Links = (),
) -> Alert:
    """A check said no.

    Args:
        check: its name.
        asset: guarded asset, ``schema/name``.
        partition: month.
        severity: ``WARN`` or ``ERROR``.
        summary: what the check said.
        evaluation: id of the evaluation event: one alert for each.
        told_since: first month of an episode in which the same was told before; the alert is then for the record.
        links: title and address.
    """
    is_error = severity.upper() == "ERROR"
    level: Severity = "critical" if is_error else "warning"
    verb = "Check failed" if is_error else "Check warns"
    if told_since is not None:
        level, verb = "info", "Check still fails" if is_error else "Check still warns"
        summary = f"{summary}\nNothing new: told since {told_since[:7]}."
    return Alert(
        event_id("check_failed", asset, check, partition, evaluation),
        level,
        f"{verb}: {check} on {asset}{_of(partition)}",
        summary,
        "check_failed",
        partition,
        links,
    )


SOON_SECONDS = 3600.0
"""A failed run that is tried again by itself within this time rings nobody yet."""

_AFTER_JOB = {
    "deploy": "the alert of the deployment says what follows; where there is none, it is tried again by itself, three "
    "times in all",
    "report_skip": "it is tried again by itself, three times in all",
    "recover_deployment": "it is tried again by itself until it succeeds",
}
"""What follows a failed run of a job that a sensor launches; the other jobs are launched by people."""


def run_failed(
    *,
    run_id: str,
    job: str,
    partition: str | None,
    step: str | None,
    error: str,
    until: str | None = None,
    launched: str | None = None,
    retry_after: float | None = None,
    links: Links = (),
) -> Alert:
    """A run ended in failure.

    Args:
        run_id: of the run.
        job: what it was asked for.
        partition: month, or the first of several.
        step: that failed; None when the process died.
        error: message.
        until: last month of several.
        launched: name of the job, where it is not that of all assets.
        retry_after: seconds after which it is tried again by itself; None: a person has to.
        links: title and address.
    """
    where = f" at {step}" if step else ""
    is_range = until not in {None, partition}
    if retry_after is not None:
        follow_up = f"it is tried again by itself {_in(retry_after)}"
    elif launched is not None:
        follow_up = _AFTER_JOB.get(launched, f"mend the cause, then launch the job `{launched}` again")
    elif partition is None:
        follow_up = "mend the cause, then run it again"
    else:
        command = f"health-pipeline run --from {partition[:7]} --to {(until or partition)[:7]}"
        follow_up = f"mend the cause, then run the month{'s' if is_range else ''} again: {command}"
    return Alert(
        event_id("run_failed", run_id),
        "warning" if retry_after is not None and retry_after <= SOON_SECONDS else "critical",
        f"Run failed: {job}{_of(partition, until)}",
        f"Run {run_id} failed{where}: {error}\nNothing of the failed step was stored; {follow_up}.",
        "run_failed",
        None if is_range else partition,
        links,
    )


def sensor_failed(*, sensor: str, tick: str, error: str, links: Links = ()) -> Alert:
    """A sensor or schedule could not do its work: what it watches over is unwatched until it recovers.

    Args:
        sensor: its name.
        tick: what makes the failure one event.
        error: message.
        links: title and address.
    """
    return Alert(
        event_id("sensor_failed", sensor, tick),
        "critical",
        f"Sensor failed: {sensor}",
        error,
        "sensor_failed",
        None,
        links,
    )


def gate_near_miss(*, month: str, model_id: str, criteria: Sequence[str], links: Links = ()) -> Alert:
    """A candidate passed or failed a gate by a hair."""
    return Alert(
        event_id("gate_near_miss", month, model_id, *criteria),
        "warning",
        f"Gate near miss{_of(month)}: {model_id}",
        "Close to the limit: " + ", ".join(criteria),
        "gate_near_miss",
        month,
        links,
    )


def decision(
    *, month: str, decision: str, model_id: str | None, reason: str, next_training: str | None, links: Links = ()
) -> Alert:
    """The champion of a month was decided (deploy, refresh, skip)."""
    severity: Severity = "warning" if model_id is None else "info"
    again = f"\nNext training: {next_training}" if next_training else ""
    return Alert(
        event_id("decision", month, decision, model_id, reason),
        severity,
        f"{decision}{_of(month)}: {model_id or 'no model in force'}",
        reason + again,
        "decision",
        month,
        links,
    )


def retrain_requested(*, month: str, model_month: str, reason: str, links: Links = ()) -> Alert:
    """Drift in a month asked for the next month's model before its turn."""
    return Alert(
        event_id("retrain_requested", month),
        "warning",
        f"Retrain requested{_of(month)}",
        f"{reason}\nThe models of {model_month[:7]} are trained now; the gates decide whether one of them replaces the "
        "champion.",
        "retrain_requested",
        month,
        links,
    )


def deployed(*, month: str, release: str, target: str, attempt: str, links: Links = ()) -> Alert:
    """A release serves."""
    return Alert(
        event_id("deployed", month, release, target, attempt),
        "info",
        f"Deployed to {target}{_of(month)}: {release}",
        "The release passed its tests, rollout and verification, and serves all traffic.",
        "deployed",
        month,
        links,
    )


def rolled_back(
    *, month: str, release: str, restored: str | None, reason: str, attempt: str, links: Links = ()
) -> Alert:
    """A release was taken back.

    Args:
        month: month of the model.
        release: what was taken back.
        restored: what serves again; None: nothing does.
        reason: why.
        attempt: deployment or rollback; the same release may be taken back again another day, for the same reason.
        links: title and address.
    """
    now = f"{restored} serves again." if restored else "No former release exists: nothing serves."
    return Alert(
        event_id("rolled_back", month, release, reason, attempt),
        "critical",
        f"Rolled back{_of(month)}: {release}",
        f"{reason}\n{now}",
        "rolled_back",
        month,
        links,
    )


def going_back_failed(*, month: str, release: str, wanted: str | None, reason: str, attempt: str) -> Alert:
    """A release could not be taken back: it may still have traffic.

    Args:
        month: month of the model.
        release: what was to be taken back.
        wanted: what shall serve again; None: nothing.
        reason: why it was to be taken back, and what kept it from that.
        attempt: deployment; its later tries to go back say nothing new.
    """
    return Alert(
        event_id("going_back_failed", month, release, attempt),
        "critical",
        f"Going back failed{_of(month)}: {release}",
        f"{reason}\n{release} may still have traffic; {wanted or 'nothing'} shall serve instead. It is tried again by "
        "itself until it succeeds; to be faster, mend the cause and launch the job `recover_deployment`.",
        "rolled_back",
        month,
    )


def deployment_failed(
    *, month: str, release: str, step: str, reason: str, is_verdict: bool, links: Links = ()
) -> Alert:
    """A release never came to serve; the former one still does.

    Args:
        month: month of the model.
        release: model that was to serve.
        step: step that failed.
        reason: what it said.
        is_verdict: the release itself was judged; otherwise a tool or a server was not there.
        links: title and address.
    """
    then = (
        "It is not tried again by itself: look at what failed, then launch the job `deploy` for the month, or let it "
        "be. The next champion is deployed as always."
        if is_verdict
        else "It is tried again by itself after a pause, three times in all, while its month is the newest decision."
    )
    return Alert(
        event_id("deployment_failed", month, release, step, reason),
        "critical",
        f"Deployment failed at {step}{_of(month)}: {release}",
        f"{reason}\nThe former release keeps serving. {then}",
        "deployment_failed",
        month,
        links,
    )


def deployment_given_up(*, month: str, release: str, tries: int, links: Links = ()) -> Alert:
    """A deployment broke off again and again, without a verdict on the release."""
    return Alert(
        event_id("deployment_given_up", month, release),
        "critical",
        f"Deployment given up{_of(month)}: {release}",
        f"{tries} runs broke off without a verdict on the release; the former one serves. It is not tried again by "
        "itself: mend what the failed runs name, then launch the job `deploy` for the month.",
        "deployment_given_up",
        month,
        links,
    )


def _of(month: str | None, until: str | None = None) -> str:
    last = f" to {until[:7]}" if until not in {None, month} else ""
    return f" ({month[:7]}{last})" if month else ""


def _in(seconds: float) -> str:
    if seconds < 60:
        return "at once"
    if seconds < SOON_SECONDS:
        return f"in {round(seconds / 60)} minutes"
    return f"in {round(seconds / 3600)} hours"
