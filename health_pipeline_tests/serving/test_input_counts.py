"""Counts of live inputs: what is kept of a row, what is not, and what a crash or a burst costs."""

from __future__ import annotations

import errno
import math
import random
import time
from pathlib import Path

import msgspec
import pytest

from health_pipeline.serving import input_counts
from health_pipeline.serving.input_counts import InputCounts, added, cell_of, read_counts, upper_bound
from health_pipeline.serving.prediction_log import Hasher, Prediction, PredictionLog
from health_pipeline.serving.schema import Feature

FEATURES = (Feature("age", "number"), Feature("payer", "category", ("medicare", "other")), Feature("flag", "boolean"))
MAY = (2024, 5)


class Ticking:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def counts(folder, month="2024-05"):
    return added(list(read_counts(folder, month)))


def numbers():
    source = random.Random(7)
    whole = [float(number) for number in range(-40, 41)]
    powers = [sign * 2.0**power for sign in (-1, 1) for power in range(-40, 50)]
    return [*whole, *powers, *(sign * source.lognormvariate(0, 6) for sign in (-1, 1) for _ in range(3000))]


def test_cells_are_ordered_and_hold_their_upper_bound():
    found = sorted(numbers())
    cells = [cell_of(number) for number in found]
    assert cells == sorted(cells)
    for number, cell in zip(found, cells, strict=True):
        bound = upper_bound(cell)
        assert number <= bound
        assert cell_of(bound) == cell
        assert cell_of(math.nextafter(bound, math.inf)) > cell
        assert bound - number <= abs(number) / 15.9, "a cell is a sixteenth wide at most"


def test_small_whole_numbers_have_cells_of_their_own():
    assert len({cell_of(float(number)) for number in range(-32, 33)}) == 65


def test_each_feature_is_counted_by_itself_and_unknown_words_are_not_kept(tmp_path):
    kept = InputCounts(tmp_path)
    for row in ((71.0, "medicare", True), (71.0, "dr. jones's ward", None), (None, "other", False), (0.0, None, True)):
        kept.add(FEATURES, row, MAY)
    kept.write()
    found = counts(tmp_path)
    assert found["age"].missing == 1
    assert found["age"].cells == {cell_of(71.0): 2, cell_of(0.0): 1}
    assert (found["payer"].words, found["payer"].others, found["payer"].missing) == ({"medicare": 1, "other": 1}, 1, 1)
    assert found["flag"].words == {"false": 1, "true": 2}
    (file,) = tmp_path.iterdir()
    assert "jones" not in file.read_text()


def test_months_and_models_have_files_of_their_own_and_processes_add_up(tmp_path):
    one, two = InputCounts(tmp_path), InputCounts(tmp_path)
    other = (Feature("age", "number"), Feature("payer", "category", ("medicare",)))
    one.add(FEATURES, (50.0, "other", True), MAY)
    one.add(FEATURES, (50.0, "other", True), (2024, 6))
    two.add(other, (50.0, "other"), MAY)
    two.add(tuple(other), (60.0, "medicare"), MAY)
    for each in (one, two):
        each.write()
    assert len(list(tmp_path.glob("inputs-2024-05-*"))) == 2
    assert [each.answered for each in read_counts(tmp_path, "2024-06")] == [1]
    found = counts(tmp_path)
    assert set(found) == {"age", "payer"}, "what all of them know"
    assert found["age"].cells == {cell_of(50.0): 2, cell_of(60.0): 1}
    assert (found["payer"].words, found["payer"].others) == ({"medicare": 1}, 2)
    assert counts(tmp_path, "2024-07") == {}


def test_a_burst_is_counted_up_to_a_budget_and_the_rest_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(input_counts, "BURST", 10.0)
    monkeypatch.setattr(input_counts, "ROWS_PER_SECOND", 2.0)
    clock = Ticking()
    kept = InputCounts(tmp_path, clock)
    for _ in range(25):
        kept.add(FEATURES, (1.0, "other", True), MAY)
    clock.now += 3.0
    for _ in range(25):
        kept.add(FEATURES, (1.0, "other", True), MAY)
    kept.write()
    (found,) = read_counts(tmp_path, "2024-05")
    assert (found.answered, found.counted) == (50, 16)


def test_a_crash_loses_what_was_counted_since_the_last_write(tmp_path):
    clock = Ticking()
    kept = InputCounts(tmp_path, clock)
    kept.add(FEATURES, (1.0, "other", True), MAY)
    kept.write_when_due()
    assert list(tmp_path.iterdir()) == [], "not due yet"
    clock.now += input_counts.WRITE_SECONDS
    kept.write_when_due()
    kept.add(FEATURES, (1.0, "other", True), MAY)
    del kept  # dies here
    (found,) = read_counts(tmp_path, "2024-05")
    assert found.answered == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_disk_that_refuses_is_noted_and_tried_again(tmp_path, monkeypatch):
    kept = InputCounts(tmp_path)
    kept.add(FEATURES, (1.0, "other", True), MAY)
    with monkeypatch.context() as patch:

        def full(_number):
            raise OSError(errno.ENOSPC, "no space")

        patch.setattr(input_counts.os, "fsync", full)
        kept.write()
    assert kept.is_failing
    assert list(read_counts(tmp_path, "2024-05")) == []
    kept.write()
    assert not kept.is_failing
    assert len(list(read_counts(tmp_path, "2024-05"))) == 1


def test_a_damaged_file_is_an_error_not_less_traffic(tmp_path: Path):
    (tmp_path / "inputs-2024-05-1-1-0001.json").write_text('{"month": "2024-05"')
    with pytest.raises(msgspec.DecodeError):
        list(read_counts(tmp_path, "2024-05"))


def test_the_log_counts_answers_and_no_probes(tmp_path):
    log = PredictionLog(tmp_path, Hasher(b"0123456789abcdef"), 0.01)
    for role in ("primary", "fallback", "probe"):
        log.append(
            Prediction(time.time_ns(), None, None, (1.0, None, True), 0.2, "m", "r", role, FEATURES),
        )
    log.append(Prediction(time.time_ns(), None, None, (1.0, None, True), 0.2, "m", "r", "shadow"))
    log.close()
    (found,) = read_counts(tmp_path, time.strftime("%Y-%m", time.gmtime()))
    assert (found.answered, found.counted) == (2, 2)
    assert log.written_rows == 4
