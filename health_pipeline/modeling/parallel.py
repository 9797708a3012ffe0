"""Shares the cores among months and, where months are fewer than cores, among the threads of one fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Plan:
    """``workers`` tasks at a time with ``threads`` threads each; the product never exceeds the cores."""

    workers: int
    threads: int


def plan_threads(tasks: int, threads: int) -> Plan:
    """Plan for a number of tasks.

    Args:
        tasks: independent pieces of work.
        threads: threads to use in all; 0 takes the cores this process may use.
    """
    total = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or os.cpu_count()
    total = max(1, total or 1)
    workers = max(1, min(tasks, total))
    return Plan(workers, max(1, total // workers))


def in_order(function: Callable[[Task], Result], tasks: Iterable[Task], plan: Plan) -> Iterator[Result]:
    """Results in the order of the tasks; only a few tasks are ahead of the one that is awaited.

    The consumer works while the next tasks run. Memory is bounded: at most ``workers`` + 1 results wait.
    """
    if plan.workers == 1:
        yield from map(function, tasks)
        return
    with ThreadPoolExecutor(plan.workers, thread_name_prefix="model-month") as pool:
        waiting: list[Future[Result]] = []
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > plan.workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products on one thread of BLAS: sums come in one order, and the last bits are the same on every machine.

    The limit is one of the process. Enter it before workers start: a limit that each worker set for itself would be
    lifted by the first one to end.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
