"""Where alerts go: a JSON log always, and the Apprise addresses of the settings by severity."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import structlog

from health_pipeline.errors import SettingsError
from health_pipeline.notify.alert import SEVERITIES, Alert, Severity

if TYPE_CHECKING:
    import apprise

    from health_pipeline.settings import NotifySettings, Settings

_log = structlog.get_logger(__name__)
# Apprise writes the addresses that it is given, tokens included. What a channel said is told with its delivery.
logging.getLogger("apprise").propagate = False

UNKNOWN = "an alert address is not one that Apprise knows"


class DeliveryError(Exception):
    """A channel did not take the alert; the text holds no secret."""


@dataclass(frozen=True)
class Channel:
    """One receiver.

    Attributes:
        name: stable and without secrets; identifies the channel in the outbox.
        least: smallest severity it gets.
        deliver: hands the alert over or raises :class:`DeliveryError`.
    """

    name: str
    least: Severity
    deliver: Callable[[Alert], None]

    def wants(self, alert: Alert) -> bool:
        """Whether the alert is severe enough for this channel."""
        return SEVERITIES.index(alert.severity) >= SEVERITIES.index(self.least)


def channels_of(settings: Settings) -> list[Channel]:
    """All channels of the settings, the JSON log first; an address that stands there twice is one, of the wider kind.

    One that Apprise does not know is a channel that refuses: a slip in it keeps no alert from the others, and no sensor
    or deployment from its work.
    """
    log = Channel("log", "info", lambda alert: _write_log(settings.home / "logs" / "alerts.jsonl", alert))
    found = {log.name: log}
    for least, setting, url in _addresses(settings):
        channel = _apprise(url, least, setting, settings.notify)
        found.setdefault(channel.name, channel)
    return list(found.values())


def check_addresses(settings: Settings) -> int:
    """Look whether Apprise knows every address; returns how many there are.

    Raises:
        SettingsError: it does not know one (the address itself is not shown: it may hold a password).
    """
    addresses = list(_addresses(settings))
    for _least, setting, url in addresses:
        if _server(url, settings.notify) is None:
            raise SettingsError(
                UNKNOWN,
                where=setting,
                remedy="see https://github.com/caronc/apprise/wiki for the form of addresses",
            )
    return len(addresses)


def _addresses(settings: Settings) -> Iterator[tuple[Severity, str, str]]:
    """Least severity, name of the setting with the position in it, address."""
    groups: tuple[tuple[Severity, str], ...] = (
        ("info", "urls"),
        ("warning", "warning_urls"),
        ("critical", "critical_urls"),
    )
    for least, name in groups:
        for position, secret in enumerate(getattr(settings.notify, name)):
            yield least, f"notify.{name}[{position}]", secret.get_secret_value()


def _write_log(path: Path, alert: Alert) -> None:
    line = json.dumps(
        {
            "event": "alert",
            "event_id": alert.event_id,
            "kind": alert.kind,
            "severity": alert.severity,
            "title": alert.title,
            "body": alert.body,
            "partition": alert.partition,
            "links": dict(alert.links),
        },
        ensure_ascii=False,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode() + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise DeliveryError(f"the alert log cannot be written: {error.strerror}") from None
    level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
    _log.log(level, "alert", event_id=alert.event_id, kind=alert.kind, title=alert.title, partition=alert.partition)


def _apprise(url: str, least: Severity, setting: str, settings: NotifySettings) -> Channel:
    import apprise

    server = _server(url, settings)
    digest = hashlib.blake2b(url.encode(), digest_size=6).hexdigest()
    # What stands before a colon is a scheme only where Apprise knows it; elsewhere it may be anything.
    scheme = "unknown" if server is None else urlsplit(url).scheme

    def deliver(alert: Alert) -> None:
        if server is None:
            raise DeliveryError(f"{setting}: {UNKNOWN}")
        kinds = {"info": "info", "warning": "warning", "critical": "failure"}
        capture: Any = apprise.LogCapture
        with capture(level=logging.WARNING, fmt="%(message)s") as captured:
            # By default Apprise hands on what is longer than a receiver takes; Teams and PagerDuty refuse that at every
            # try. Where it turns the text into Markdown, a backslash before each sign makes that longer again.
            is_marked = server.notify_format == apprise.NotifyFormat.MARKDOWN
            text = alert.text(server.body_maxlen * 3 // 4 if is_marked else server.body_maxlen)
            taken = server.notify(body=text, title=alert.title, notify_type=kinds[alert.severity], body_format="text")
            said = captured.getvalue()
        if not taken:
            raise DeliveryError(_without_secrets(said, url) or "the channel did not take the alert")

    return Channel(f"{scheme}:{digest}", least, deliver)


def _server(url: str, settings: NotifySettings) -> apprise.NotifyBase | None:
    """What sends to an address; None when Apprise does not know its form."""
    import apprise

    try:
        return apprise.Apprise.instantiate(_with_defaults(url, settings.timeout_seconds), asset=_asset())
    except ValueError:  # of urllib: brackets that hold no IPv6 address
        return None


def _asset() -> apprise.AppriseAsset:
    import apprise

    return apprise.AppriseAsset(app_id="health-pipeline", app_desc="health-pipeline", secure_logging=True)


def _with_defaults(url: str, seconds: float) -> str:
    """The address with our timeouts, and never more text than its receiver takes, unless it says otherwise itself."""
    parts = urlsplit(url)
    given = {name for name, _ in parse_qsl(parts.query)}
    timeouts = "" if {"rto", "cto"} & given else f"rto={seconds}&cto={seconds}"
    overflow = "" if "overflow" in given else "overflow=truncate"
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, timeouts, overflow)))))


def _without_secrets(text: str, url: str) -> str:
    """What the channel said, on one line, without user, password, token or query of its address."""
    parts = urlsplit(url)
    secrets = {parts.username, parts.password, *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))}
    line = " ".join(text.split())
    for secret in sorted((item for item in secrets if item and len(item) > 2), key=len, reverse=True):
        line = line.replace(secret, "...")
    return line[:300]
