"""Alerts: texts, channels, and an outbox that sends each event once."""

from health_pipeline.notify import links, templates
from health_pipeline.notify.alert import Alert, event_id
from health_pipeline.notify.delivery import Outcome, flush, outbox_of, post, resend, send, undelivered
from health_pipeline.notify.outbox import Delivery, Outbox

__all__ = [
    "Alert",
    "Delivery",
    "Outbox",
    "Outcome",
    "event_id",
    "flush",
    "links",
    "outbox_of",
    "post",
    "resend",
    "send",
    "templates",
    "undelivered",
]
