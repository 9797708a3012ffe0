from __future__ import annotations

import pytest

from health_pipeline.notify.episodes import Failure, told_since


def failure(month: int, severity: str, *subjects: str) -> Failure:
    return Failure(f"2024-{month:02d}-01", severity, frozenset(subjects))


@pytest.mark.parametrize(
    ("now", "episode", "since"),
    [
        (failure(3, "ERROR", "age"), [], None),
        (failure(3, "ERROR", "age"), [failure(2, "ERROR", "age"), failure(1, "ERROR", "age")], "2024-01-01"),
        (failure(3, "ERROR", "age"), [failure(2, "ERROR", "payer"), failure(1, "ERROR", "age")], "2024-01-01"),
        (failure(3, "ERROR", "age", "sex"), [failure(2, "ERROR", "age")], None),
        (failure(3, "ERROR", "age"), [failure(2, "WARN", "age")], None),
        (failure(3, "WARN", "age"), [failure(2, "ERROR", "age")], "2024-02-01"),
        (failure(3, "ERROR"), [failure(2, "ERROR")], None),
    ],
    ids=["first", "same", "seen before", "joined", "worse", "better", "nameless"],
)
def test_what_was_told_in_an_episode(now: Failure, episode: list[Failure], since: str | None) -> None:
    assert told_since(now, episode) == since
