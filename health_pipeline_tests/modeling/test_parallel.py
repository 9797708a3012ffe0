"""Months share the cores without oversubscription, in order, and not all at once."""

from __future__ import annotations

import threading
import time

import pytest

from health_pipeline.modeling.parallel import Plan, in_order, plan_threads


@pytest.mark.parametrize(
    ("tasks", "threads", "expected"),
    [(12, 2, Plan(2, 1)), (1, 2, Plan(1, 2)), (3, 8, Plan(3, 2)), (0, 4, Plan(1, 4)), (5, 1, Plan(1, 1))],
)
def test_workers_times_threads_never_exceed_the_threads_asked_for(tasks, threads, expected):
    plan = plan_threads(tasks, threads)
    assert plan == expected
    assert plan.workers * plan.threads <= threads


def test_results_come_in_the_order_of_the_tasks_and_few_run_ahead():
    running, most = 0, 0
    started: list[int] = []
    guard = threading.Lock()

    def work(task: int) -> int:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
            started.append(task)
        time.sleep(0.002 * (5 - task % 5))
        with guard:
            running -= 1
        return task * task

    results = in_order(work, range(20), Plan(3, 1))
    assert next(results) == 0
    assert len(started) <= 5
    assert list(results) == [task * task for task in range(1, 20)]
    assert most <= 3


def test_an_error_of_a_month_reaches_the_caller():
    def work(task: int) -> int:
        if task == 2:
            raise ValueError("month 2")
        return task

    with pytest.raises(ValueError, match="month 2"):
        list(in_order(work, range(6), Plan(2, 1)))
