from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from health_pipeline.logs import LOG_FILE, QUIET, configure_logging, log_context, timed
from health_pipeline.settings import load_settings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    yield
    for name, least in quiet.items():
        logging.getLogger(name).setLevel(least)
    for handler in list(root.handlers):
        if handler not in before:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_carry_run_asset_and_partition(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging(load_settings(home=tmp_path), json=True, stream=stream)
    with log_context(run_id="r1", asset="gold/features", partition="2023-05-01"):
        structlog.get_logger("health_pipeline.features").info("features.built", rows=3)
        logging.getLogger("library").warning("plain %s", "text")
    structlog.get_logger("health_pipeline.features").info("outside")
    first, second, third = lines(stream)
    assert first["event"] == "features.built"
    assert first["rows"] == 3
    for line in (first, second):
        assert (line["run_id"], line["asset"], line["partition"]) == ("r1", "gold/features", "2023-05-01")
        assert {"timestamp", "level", "logger"} <= set(line)
    assert second["event"] == "plain text"
    assert "run_id" not in third
    assert [json.loads(line) for line in (tmp_path / "logs" / LOG_FILE).read_text().splitlines()] == lines(stream)


def test_level_is_kept_and_text_is_not_json(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging(load_settings(home=tmp_path), level="WARNING", stream=stream)
    structlog.get_logger("a").info("quiet")
    structlog.get_logger("a").warning("loud", month="2023-05")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()
    assert "month=2023-05" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_configuring_twice_does_not_double_the_lines(tmp_path: Path) -> None:
    streams = [io.StringIO(), io.StringIO()]
    for stream in streams:
        configure_logging(load_settings(home=tmp_path), json=True, stream=stream)
    structlog.get_logger("a").info("once")
    assert [len(lines(stream)) for stream in streams] == [0, 1]


def test_steps_are_timed_also_when_they_fail(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging(load_settings(home=tmp_path), json=True, stream=stream)
    with timed("silver", table="admissions") as found:
        found["rows"] = 7
    with pytest.raises(ZeroDivisionError), timed("gold"):
        _ = 1 / 0
    done, failed = lines(stream)
    assert (done["event"], done["rows"], done["table"]) == ("step.done", 7, "admissions")
    assert float(str(done["seconds"])) >= 0
    assert (failed["event"], failed["error"], failed["level"]) == ("step.failed", "ZeroDivisionError", "error")


def test_tracebacks_show_where_it_broke_but_no_variable(tmp_path: Path) -> None:
    def read(patient_id: str) -> None:
        raise LookupError("no such month")

    for json_lines in (True, False):
        stream = io.StringIO()
        configure_logging(load_settings(home=tmp_path), json=json_lines, stream=stream)
        for log in (structlog.get_logger("health_pipeline.room"), logging.getLogger("library")):
            try:
                read("MRN-4711")
            except LookupError:
                log.exception("broke")
        for text in (stream.getvalue(), (tmp_path / "logs" / LOG_FILE).read_text()):
            assert "no such month" in text
            assert "test_logs.py" in text
            assert "MRN-4711" not in text.replace('read("MRN-4711")', "")


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs" / LOG_FILE).mkdir(parents=True)  # as that of another user is
    stream = io.StringIO()
    configure_logging(load_settings(home=tmp_path), json=True, stream=stream)
    for number in range(3):
        structlog.get_logger("a").info("event", number=number)
    assert [line["number"] for line in lines(stream)] == [0, 1, 2]
    assert capsys.readouterr().err == f"the log cannot be written: {tmp_path / 'logs' / LOG_FILE}: Is a directory\n"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_lines_of_libraries_that_fill_the_log_are_left_out(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("alembic"), "propagate", True)  # MLflow, once imported, keeps its lines
    stream = io.StringIO()
    configure_logging(load_settings(home=tmp_path), json=True, level=level, stream=stream)
    logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
    logging.getLogger("urllib3.connectionpool").debug("POST /token")
    logging.getLogger("alembic.runtime.migration").warning("look")
    logging.getLogger("urllib3.connectionpool").error("away")
    assert [line["event"] for line in lines(stream)] == (["away"] if level == "ERROR" else ["look", "away"])
