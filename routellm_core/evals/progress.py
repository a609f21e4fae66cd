"""Progress bars for scoring, one per router."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["ScoringBars", "scoring_progress"]


class ScoringBars:
    """Called with (router, prompts scored, prompts in all)."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, router: str, done: int, total: int) -> None:
        """Move the router's bar."""
        if router not in self._tasks:
            self._tasks[router] = self._progress.add_task(router, total=total)
        self._progress.update(self._tasks[router], completed=done)


@contextmanager
def scoring_progress(console: Console | None) -> Iterator[ScoringBars | None]:
    """Show bars on ``console`` while the block runs; None shows nothing."""
    if console is None:
        yield None
        return
    columns = (TextColumn("scoring {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield ScoringBars(progress)
