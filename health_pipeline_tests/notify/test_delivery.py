from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import threading
from pathlib import Path

import pytest
import structlog
from apprise.plugins.base import NotifyBase
from apprise.plugins.custom_json import NotifyJSON
from apprise.plugins.pagerduty import NotifyPagerDuty
from apprise.plugins.workflows import NotifyWorkflows

from health_pipeline.errors import SettingsError
from health_pipeline.logs import configure_logging
from health_pipeline.notify import Alert, event_id, flush, outbox_of, post, resend, send, templates, undelivered
from health_pipeline.notify.channels import check_addresses
from health_pipeline.settings import Settings, load_settings
from health_pipeline_tests.notify.receivers import mail_server, webhook

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


def settings_with(home: Path, **notify: object) -> Settings:
    return load_settings(home=home, notify=notify)


def failed_check(evaluation: str = "1", severity: str = "ERROR") -> Alert:
    return templates.check_failed(
        check="features_resemble_training",
        asset="monitoring/drift",
        partition="2023-05-01",
        severity=severity,
        summary="features: alarm in creatinine",
        evaluation=evaluation,
        links=(("run", "http://dagster.local/runs/1"),),
    )


def log_lines(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / "logs" / "alerts.jsonl").read_text("utf-8").splitlines()]


def test_webhook_and_mail_get_each_event_once(tmp_path: Path) -> None:
    with webhook() as hook, mail_server() as (mailbox, port):
        mail = f"mailto://127.0.0.1:{port}?from=pipeline@hospital.test&to=team@hospital.test&mode=insecure"
        settings = settings_with(tmp_path, urls=(hook.url, mail))
        first = send(failed_check(), settings)
        again = send(failed_check(), settings)
        other = send(failed_check("2"), settings)
        assert (first.is_new, first.sent, again.is_new, again.sent, other.sent) == (True, 3, False, 0, 3)
        assert [item["title"] for item in hook.received] == [
            "Check failed: features_resemble_training on monitoring/drift (2023-05)"
        ] * 2
        assert "features: alarm in creatinine" in hook.received[0]["message"]
        assert "http://dagster.local/runs/1" in hook.received[0]["message"]
        assert failed_check().event_id in hook.received[0]["message"]
        assert len(mailbox.messages) == 2
        assert mailbox.messages[0]["To"] == "team@hospital.test"
        assert "features_resemble_training" in mailbox.messages[0]["Subject"]
    assert [line["event_id"] for line in log_lines(tmp_path)] == [failed_check().event_id, failed_check("2").event_id]
    assert undelivered(settings) == []


def test_severity_chooses_the_channels(tmp_path: Path) -> None:
    with webhook() as everything, webhook() as warnings, webhook() as pager:
        settings = settings_with(
            tmp_path, urls=(everything.url,), warning_urls=(warnings.url,), critical_urls=(pager.url,)
        )
        for severity in ("info", "warning", "critical"):
            send(Alert(event_id(severity), severity, severity, "text"), settings)
        assert [len(hook.received) for hook in (everything, warnings, pager)] == [3, 2, 1]


def test_a_refused_alert_is_visible_and_arrives_later_once(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,), retry_seconds=60)
        hook.refuse = 2
        assert send(failed_check(), settings, clock).waiting == 1
        waiting = undelivered(settings)
        assert [(item.state, item.attempts) for item in waiting] == [("pending", 1)]
        assert waiting[0].error
        assert flush(settings, clock).sent == 0, "not due yet"
        assert hook.asked == 1
        clock.forward(61)
        assert flush(settings, clock).waiting == 1
        clock.forward(61)
        assert flush(settings, clock).waiting == 0, "the second wait is twice as long"
        clock.forward(61)
        assert flush(settings, clock).sent == 1
        assert (len(hook.received), undelivered(settings)) == (1, [])
        clock.forward(100_000)
        flush(settings, clock)
        assert len(hook.received) == 1
    assert len(log_lines(tmp_path)) == 1, "the log channel got it at once and only once"


def test_given_up_alerts_stay_visible_and_can_be_sent_again(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,), attempts=2, retry_seconds=1)
        hook.refuse = 2
        send(failed_check(), settings, clock)
        clock.forward(2)
        assert flush(settings, clock).failed == 1
        clock.forward(100_000)
        assert flush(settings, clock).sent == 0
        assert [item.state for item in undelivered(settings)] == ["failed"]
        assert outbox_of(settings).retry_failed(clock()) == 1
        assert flush(settings, clock).sent == 1
        assert len(hook.received) == 1


def test_a_channel_may_be_away_for_many_tries(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,), attempts=10_000)
        send(failed_check(), settings, clock)
        outbox, (given,) = outbox_of(settings), outbox_of(settings).deliveries("sent")[:1]
        for attempts in (44, 1_100, 9_999):
            tried = dataclasses.replace(given, attempts=attempts)
            assert outbox.refused(tried, "away", clock(), 10_000, dt.timedelta(seconds=30)) == "pending"
            clock.forward(3599)
            assert flush(settings, clock).sent == 0
            clock.forward(1)
            assert flush(settings, clock).sent == 1, "at most an hour later"


def test_a_clock_that_was_set_back_holds_no_alert_back(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,))
        clock.forward(400 * 86_400)  # a machine that starts with a wrong clock, and without its network
        hook.refuse = 1
        assert send(failed_check(), settings, clock).waiting == 1
        clock.forward(-400 * 86_400)
        assert flush(settings, clock).sent == 1
        assert (len(hook.received), undelivered(settings)) == (1, [])


def test_a_corrected_address_gets_what_the_wrong_one_refused(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        wrong = settings_with(tmp_path, critical_urls=("json://127.0.0.1:1/hook",), attempts=1)
        send(failed_check("1"), wrong, clock)  # given up
        send(failed_check("2"), settings_with(tmp_path, critical_urls=("json://127.0.0.1:1/hook",)), clock)  # waits
        send(failed_check("3", "WARN"), wrong, clock)
        right = settings_with(tmp_path, critical_urls=(hook.url,))
        clock.forward(100_000)
        flush(right, clock)
        assert (len(hook.received), len(undelivered(right))) == (0, 2), "another process may have the old address"
        assert resend(right, clock).sent == 2
        assert (len(hook.received), undelivered(right)) == (2, [])
        assert resend(right, clock).sent == 0
    assert len(log_lines(tmp_path)) == 3


def test_an_address_that_stands_twice_in_the_settings_is_one(tmp_path: Path) -> None:
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,), critical_urls=(hook.url,))
        assert send(failed_check(), settings).sent == 2
        send(failed_check("2", "WARN"), settings)
        assert len(hook.received) == 2


def test_a_channel_that_breaks_is_given_up_like_one_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    deliver = NotifyJSON.send

    def breaks_at_one(self: NotifyJSON, **named: object) -> object:
        if self.port == 1:
            raise TypeError("s3cretword")
        return deliver(self, **named)

    monkeypatch.setattr(NotifyJSON, "send", breaks_at_one)
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=("json://127.0.0.1:1/hook", hook.url), attempts=2)
        outcome = send(failed_check(), settings, clock)
        assert (outcome.sent, outcome.waiting) == (2, 1), "the others get theirs"
        clock.forward(100_000)
        assert flush(settings, clock).failed == 1
        (given_up,) = undelivered(settings)
        assert given_up.error == "the channel broke: TypeError"


def test_a_name_that_is_no_text_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    with webhook() as hook, mail_server() as (_mailbox, port):
        mail = f"mailto://127.0.0.1:{port}?from=pipeline@hospital.test&to=team@hospital.test&mode=insecure"
        settings = settings_with(tmp_path, urls=(hook.url, mail))
        name = b"2023-05-\xe9.csv".decode(errors="surrogateescape")
        alert = templates.run_failed(run_id="1", job="any", partition=None, step="bronze", error=f"cannot read {name}")
        assert send(alert, settings).sent == 3
    assert "2023-05-\\udce9.csv" in str(log_lines(tmp_path)[0]["body"])


@pytest.mark.parametrize("length", [10, 400, 600, 700, 800, 2_000, 100_000])
def test_a_long_error_is_told_to_pagers_that_take_short_texts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    alert = templates.run_failed(
        run_id="1", job="labels:2023-05:7", partition="2023-05-01", step="gold__labels", error="why, " * (length // 5),
        links=(("run", "https://dagster.hospital.example/runs/1"),),
    )  # fmt: skip
    given: dict[str, str] = {}

    def takes(self: NotifyBase, body: str, **_more: object) -> bool:
        given[type(self).__name__] = body
        return True

    for plugin in (NotifyPagerDuty, NotifyWorkflows, NotifyJSON):
        monkeypatch.setattr(plugin, "send", takes)
    addresses = (f"pagerduty://{'k' * 32}@api", "workflows://prod-01.westus.logic.azure.com/id/signature", "json://x")
    assert send(alert, settings_with(tmp_path, critical_urls=addresses)).sent == 4
    for plugin in (NotifyPagerDuty, NotifyWorkflows):
        assert len(given[plugin.__name__]) <= plugin.body_maxlen
        said = given[plugin.__name__].replace("\\", "")  # of Markdown
        assert alert.body in said or len(alert.body) + len(alert.title) > 550
        assert "gold__labels: why, " in said
        assert "health-pipeline run --from 2023-05 --to 2023-05.\nrun: https://" in said, "what is to do stays"
        assert said.endswith(f"event {alert.event_id}")
    assert alert.body in given["NotifyJSON"] or length > 32_000, "who takes all of it gets it"
    assert log_lines(tmp_path)[0]["body"] == alert.body


def test_no_secret_of_an_address_is_stored_or_told(tmp_path: Path) -> None:
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,))
        hook.refuse = 1
        send(failed_check(), settings)
        stored = (tmp_path / "notify" / "outbox.sqlite").read_bytes()
        assert b"s3cretword" not in stored
        assert "s3cretword" not in repr(undelivered(settings)) + repr(settings)


def test_no_secret_of_an_address_is_logged_at_any_level(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
    handlers, levels = list(root.handlers), (root.level, urllib3.level)
    with webhook() as hook:
        token = f"json://127.0.0.1:{hook.port}/hunter2?+X-Key=hunter2"
        settings = settings_with(tmp_path, urls=(token, "hunter2", "user:hunter2@x", "json://127.0.0.1:1/hunter2"))
        configure_logging(settings, level="DEBUG")
        try:
            assert send(failed_check(), settings).sent == 2
        finally:
            for handler in [each for each in root.handlers if each not in handlers]:
                root.removeHandler(handler)
                handler.close()
            root.setLevel(levels[0])
            urllib3.setLevel(levels[1])
            structlog.reset_defaults()
    assert len(hook.received) == 1
    written = (tmp_path / "logs" / "pipeline.jsonl").read_text()
    assert "alert.refused" in written
    assert "hunter2" not in written + "".join(capfd.readouterr())


@pytest.mark.parametrize("wrong", ["nosuch://hunter2@x", "hunter2", "hunter2:x", "json://[hunter2", ""])
def test_an_address_that_apprise_does_not_know_is_a_channel_that_refuses(tmp_path: Path, wrong: str) -> None:
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url, wrong))
        assert send(failed_check(), settings).waiting == 1
        assert len(hook.received) == len(log_lines(tmp_path)) == 1, (
            "a slip in one address keeps nothing from the others"
        )
        (refused,) = undelivered(settings)
        assert "notify.urls[1]: an alert address is not one that Apprise knows" in str(refused.error)
        with pytest.raises(SettingsError, match=r"notify.urls\[1\]") as caught:
            check_addresses(settings)
        stored = (tmp_path / "notify" / "outbox.sqlite").read_bytes()
        assert "hunter2" not in f"{caught.value}{refused}{stored!r}"
        assert check_addresses(settings_with(tmp_path, urls=(hook.url,), critical_urls=(hook.url,))) == 2


def test_a_channel_that_is_away_is_waited_for_once_a_round(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as away, webhook() as there:
        settings = settings_with(tmp_path, urls=(away.url, there.url))
        away.refuse = 3
        for number in range(5):
            assert post(failed_check(str(number)), settings, clock)
            assert not post(failed_check(str(number)), settings, clock)
        flush(settings, clock)
        assert (away.asked, len(there.received)) == (1, 5)
        for _ in range(9):
            clock.forward(100)
            flush(settings, clock)
        told = {str(item["message"]).rsplit(" ", 1)[-1] for item in away.received}
        assert told == {failed_check(str(number)).event_id for number in range(5)}
        assert (len(away.received), undelivered(settings)) == (5, [])


def test_a_round_ends_before_dagster_ends_the_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    deliver = NotifyJSON.send

    def slow(self: NotifyJSON, **named: object) -> object:
        clock.forward(9)
        return deliver(self, **named)

    monkeypatch.setattr(NotifyJSON, "send", slow)
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,))
        for number in range(5):
            post(failed_check(str(number)), settings, clock)
        flush(settings, clock)
        assert len(hook.received) == 3, "the last one began before the round was over"
        flush(settings, clock)
        assert len(hook.received) == 5


def test_a_receiver_that_is_away_does_not_stop_the_caller(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, urls=("json://127.0.0.1:1/hook",))
    outcome = send(failed_check(), settings)
    assert (outcome.sent, outcome.waiting) == (1, 1), "the log took it, the dead webhook waits"


def test_parallel_senders_send_once(tmp_path: Path) -> None:
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,))
        outbox_of(settings)
        threads = [threading.Thread(target=send, args=(failed_check(str(i % 5)), settings)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        flush(settings)
        titles = [item["message"].rsplit(" ", 1)[-1] for item in hook.received]
        assert sorted(titles) == sorted(failed_check(str(i)).event_id for i in range(5))


def test_a_claim_of_a_dead_process_expires(tmp_path: Path) -> None:
    clock = Clock()
    with webhook() as hook:
        settings = settings_with(tmp_path, urls=(hook.url,))
        outbox = outbox_of(settings)
        from health_pipeline.notify.channels import channels_of

        names = [channel.name for channel in channels_of(settings)]
        outbox.add(failed_check(), names, clock())
        for _ in names:
            assert outbox.claim(names, clock()) is not None
        assert outbox.claim(names, clock()) is None
        assert flush(settings, clock).sent == 0
        clock.forward(601)
        assert flush(settings, clock).sent == 2
        assert len(hook.received) == 1


def test_an_unwritable_log_is_a_refusal_not_a_loss(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "logs").write_text("in the way")
    settings = settings_with(tmp_path)
    assert send(failed_check(), settings, clock).waiting == 1
    assert "alert log" in str(undelivered(settings)[0].error)
    (tmp_path / "logs").unlink()
    clock.forward(3600)
    assert flush(settings, clock).sent == 1
    assert len(log_lines(tmp_path)) == 1


def test_alert_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="severity"):
        Alert("1", "loud", "title", "body")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="title"):
        Alert("1", "info", "", "body")


def test_templates_tell_month_and_severity() -> None:
    found = [
        failed_check(severity="WARN"),
        failed_check(),
        templates.run_failed(
            run_id="r", job="monthly", partition="2023-05-01", step="gold__labels", error="LandingError"
        ),
        templates.sensor_failed(sensor="new_files", tick="7", error="OSError"),
        templates.gate_near_miss(month="2023-05-01", model_id="xgboost-1", criteria=["improvement"]),
        templates.decision(
            month="2023-05-01", decision="SKIP", model_id="a", reason="no better", next_training="2023-06-01"
        ),
        templates.decision(month="2023-05-01", decision="SKIP", model_id=None, reason="thin data", next_training=None),
        templates.retrain_requested(month="2023-05-01", model_month="2023-06-01", reason="2 of 3 months alarmed"),
        templates.deployed(month="2023-05-01", release="xgboost-1", target="local", attempt="a"),
        templates.rolled_back(month="2023-05-01", release="xgboost-1", restored=None, reason="error rate", attempt="a"),
        templates.deployment_failed(
            month="2023-05-01", release="x", step="api_tests", reason="latency", is_verdict=True
        ),
        templates.deployment_given_up(month="2023-05-01", release="x", tries=3),
    ]
    assert [alert.severity for alert in found] == [
        "warning", "critical", "critical", "critical", "warning",
        "info", "warning", "warning", "info", "critical", "critical", "critical",
    ]  # fmt: skip
    assert all("2023-05" in alert.title for alert in found if alert.kind != "sensor_failed")
    assert len({alert.event_id for alert in found}) == len(found) - 1, "one evaluation is one event"
    assert "Nothing" not in found[9].title
    assert "nothing serves" in found[9].body
