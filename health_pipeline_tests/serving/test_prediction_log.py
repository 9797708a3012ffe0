from __future__ import annotations

import errno
import time

import pytest

from health_pipeline.privacy.pseudonym import pseudonym
from health_pipeline.serving import prediction_log
from health_pipeline.serving.prediction_log import Hasher, Prediction, PredictionLog, read_log

KEY = b"0123456789abcdef"


def row(number: int) -> Prediction:
    return Prediction(time.time_ns(), f"patient-{number}", None, (float(number), None, "x"), 0.25, "m", "r", "primary")


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def test_rows_reach_the_file_soon_and_hashed(tmp_path):
    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.02)
    for number in range(2500):
        log.append(row(number))
    wait_until(lambda: log.written_rows == 2500)
    rows = list(read_log(tmp_path))
    assert len(rows) == 2500
    assert rows[7]["patient_hash"] == pseudonym("patient-7", KEY)
    assert rows[7]["encounter_hash"] is None
    assert rows[7]["feature_hash"] != rows[8]["feature_hash"]
    assert "patient-7" not in next(tmp_path.iterdir()).read_text()
    log.close()


def test_a_torn_last_line_is_skipped(tmp_path):
    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.01)
    log.append(row(1))
    log.close()
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + b'{"time":"2023')
    assert len(list(read_log(tmp_path))) == 1


def test_a_full_disk_loses_nothing_that_fits_in_memory(tmp_path):
    failing = True

    def open_file(path):
        if failing:
            raise OSError(errno.ENOSPC, "no space")
        return path.open("ab", buffering=0)

    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.01, open_file=open_file)
    for number in range(1500):
        log.append(row(number))
    wait_until(lambda: log.is_failing)
    assert log.written_rows == 0
    failing = False
    wait_until(lambda: log.written_rows == 1500)
    assert not log.is_failing
    log.close()
    assert len(list(read_log(tmp_path))) == 1500


@pytest.mark.parametrize(
    "fault", ["the disk is full in the middle of a write", "the sync fails", "the disk is full, the close fails too"]
)
def test_a_write_that_fails_half_way_doubles_no_row(tmp_path, monkeypatch, fault):
    class Disk:
        """Takes some rows and a part of one, then nothing."""

        def __init__(self, path):
            self._file, self._left = path.open("ab", buffering=0), 2_000

        def write(self, content):
            if not fails:
                return self._file.write(content)
            if not self._left:
                raise OSError(errno.ENOSPC, "no space")
            taken = self._file.write(content[: self._left])
            self._left -= taken
            return taken

        def close(self):
            self._file.close()
            if fails and fault.endswith("the close fails too"):
                raise OSError(errno.EDQUOT, "quota exceeded")

        def __getattr__(self, name):
            return getattr(self._file, name)

    def fsync(descriptor):
        if fails:
            raise OSError(errno.EIO, "gone")

    full = fault.startswith("the disk")
    fails = True
    if not full:
        monkeypatch.setattr(prediction_log.os, "fsync", fsync)
    open_file = Disk if full else (lambda path: path.open("ab", buffering=0))
    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.01, open_file=open_file)
    for number in range(50):
        log.append(row(number))
    wait_until(lambda: log.is_failing)
    fails = False
    wait_until(lambda: log.written_rows == 50)
    log.close()
    assert [entry["patient_hash"] for entry in read_log(tmp_path)] == [
        pseudonym(f"patient-{number}", KEY) for number in range(50)
    ]


def test_beyond_the_memory_bound_rows_are_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "MAX_QUEUED", 10)

    def no_disk(_path):
        raise OSError(errno.EIO, "gone")

    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=60, open_file=no_disk)
    for number in range(25):
        log.append(row(number))
    assert log.dropped_rows == 15


def test_files_rotate(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "ROTATE_BYTES", 1000)
    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.01)
    for number in range(4):
        log.append(row(number))
        for extra in range(10):
            log.append(row(extra))
        expected = 11 * (number + 1)
        wait_until(lambda expected=expected: log.written_rows == expected)
    log.close()
    assert len(list(tmp_path.iterdir())) > 1
    assert len(list(read_log(tmp_path))) == 44


@pytest.mark.parametrize("values", [(1.0, 2.0), (1.0, None), (2.0, 1.0)])
def test_feature_hash_tells_values_apart(values):
    assert Hasher.features(values) == Hasher.features(values)
    assert Hasher.features(values) != Hasher.features((1.0, 3.0))


def test_a_file_that_was_deleted_takes_no_row_with_it(tmp_path):
    """Rows went on into the file that no folder held any more, until the process ended."""
    log = PredictionLog(tmp_path, Hasher(KEY), flush_seconds=0.01)
    log.append(row(1))
    wait_until(lambda: log.written_rows == 1)
    for path in tmp_path.glob("predictions-*"):
        path.unlink()
    log.append(row(2))
    wait_until(lambda: log.written_rows == 2)
    log.close()
    assert [entry["patient_hash"] for entry in read_log(tmp_path)] == [pseudonym("patient-2", KEY)]
