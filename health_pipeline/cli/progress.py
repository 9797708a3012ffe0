"""Progress bars for long work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Report = Callable[[str], None]


def progress_bar(console: Console | None = None) -> Progress:
    """The look of every bar: what, how far, how long."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console or Console(stderr=True),
    )


@contextmanager
def work_progress(title: str, total: int | None = None) -> Iterator[Report]:
    """A bar that moves by one for each call of what is yielded, with the name of what is being done."""
    with progress_bar() as bar:
        task = bar.add_task(title, total=total)

        def report(what: str) -> None:
            bar.update(task, description=f"{title}: {what}", advance=1)

        yield report
