"""Sending: into the outbox first, then to every channel that wants the alert."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from health_pipeline.clock import Clock, system_clock
from health_pipeline.notify.channels import Channel, DeliveryError, channels_of
from health_pipeline.notify.outbox import Delivery, Outbox

if TYPE_CHECKING:
    from health_pipeline.notify.alert import Alert
    from health_pipeline.settings import Settings

_log = structlog.get_logger(__name__)


ROUND_SECONDS = 20.0
"""Dagster ends the tick of a sensor after a minute; what is left goes out in the next round."""


@dataclass(frozen=True)
class Outcome:
    """What a round of deliveries achieved.

    Attributes:
        is_new: whether the event had not been sent before (always true for :func:`flush`).
        sent: deliveries that were taken.
        waiting: deliveries that will be tried again.
        failed: deliveries that were given up in this round.
    """

    is_new: bool
    sent: int = 0
    waiting: int = 0
    failed: int = 0


def outbox_of(settings: Settings) -> Outbox:
    """The outbox in the home."""
    return Outbox(settings.home / "notify" / "outbox.sqlite")


def send(alert: Alert, settings: Settings, clock: Clock = system_clock) -> Outcome:
    """Send an alert exactly once to every channel that wants it; what a channel refuses is retried later.

    Alerts of earlier calls that are due again go out too. A channel that refuses is no error of the caller: it shows in
    :func:`undelivered`, in the log and in the outcome.
    """
    if not post(alert, settings, clock):
        return Outcome(is_new=False)
    return flush(settings, clock)


def post(alert: Alert, settings: Settings, clock: Clock = system_clock) -> bool:
    """Put an alert into the outbox, from where :func:`flush` sends it; returns whether the event is new.

    For whoever tells of many events: a channel that is away is waited for once, not once for each of them.
    """
    wanted = [channel.name for channel in channels_of(settings) if channel.wants(alert)]
    return outbox_of(settings).add(alert, wanted, clock())


def flush(settings: Settings, clock: Clock = system_clock) -> Outcome:
    """Try what is due: call it from a schedule or sensor, so that refused alerts arrive without a new one."""
    return _deliver(channels_of(settings), settings, clock)


def undelivered(settings: Settings) -> list[Delivery]:
    """Deliveries that wait for another try or were given up."""
    return outbox_of(settings).deliveries("pending", "sending", "failed")


def resend(settings: Settings, clock: Clock = system_clock) -> Outcome:
    """Give what was given up a fresh set of tries, and what waits for an address that was changed to the new ones.

    For a person who has mended a channel: only then is the address that is not in the settings really gone.
    """
    channels, outbox, now = channels_of(settings), outbox_of(settings), clock()
    names = {channel.name for channel in channels}
    for delivery in outbox.deliveries("pending", "sending", "failed"):
        if delivery.channel not in names:
            wanted = [channel.name for channel in channels if channel.wants(delivery.alert)]
            outbox.readdress(delivery, wanted, now)
    outbox.retry_failed(now)
    return _deliver(channels, settings, clock)


def _deliver(channels: list[Channel], settings: Settings, clock: Clock) -> Outcome:
    outbox = outbox_of(settings)
    by_name = {channel.name: channel for channel in channels}
    wait = dt.timedelta(seconds=settings.notify.retry_seconds)
    counts = {"sent": 0, "pending": 0, "failed": 0}
    ends_at = clock() + dt.timedelta(seconds=ROUND_SECONDS)
    while (now := clock()) < ends_at and (delivery := outbox.claim(list(by_name), now)) is not None:
        try:
            by_name[delivery.channel].deliver(delivery.alert)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its refusal; the other alerts go on
            reason = str(error) if isinstance(error, DeliveryError) else f"the channel broke: {type(error).__name__}"
            state = outbox.refused(delivery, reason, clock(), settings.notify.attempts, wait)
            # Each refusal may take as long as the channel is waited for: its other alerts are tried in later rounds.
            del by_name[delivery.channel]
            _log.log(
                40 if state == "failed" else 30,
                "alert.refused",
                event_id=delivery.alert.event_id,
                channel=delivery.channel,
                attempts=delivery.attempts,
                given_up=state == "failed",
                reason=reason,
            )
        else:
            outbox.sent(delivery, clock())
            state = "sent"
        counts[state] += 1
    return Outcome(True, counts["sent"], counts["pending"], counts["failed"])
