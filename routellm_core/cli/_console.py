"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

# What is printed holds prompts, names, paths and other people's messages: square brackets are text unless asked for.
output = Console(highlight=False, markup=False)
errors = Console(stderr=True, highlight=False, markup=False)


def say(style: str, label: str, text: str, *, console: Console = errors) -> None:
    """Print ``label`` in a style and ``text`` as it is."""
    console.print(f"[{style}]{escape(label)}[/] {escape(text)}", markup=True, soft_wrap=True)


def note(text: str) -> None:
    """Print what a user should know, and what stops nothing."""
    say("yellow", "note:", text)


@contextmanager
def progress_bars(doing: str, *, console: Console = errors) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each thing on a terminal while the block runs; yields ``report(thing, done, in all)``."""
    tasks: dict[str, TaskID] = {}
    with _progress(console) as progress:

        def report(thing: str, done: int, total: int) -> None:
            if thing not in tasks:
                tasks[thing] = progress.add_task(f"{doing} {thing}".rstrip())
            progress.update(tasks[thing], completed=done, total=total)

        yield report


@contextmanager
def progress_bar(doing: str, total: int | None, *, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while the block runs; yields the function to call with what was done meanwhile."""
    with _progress(errors, hidden=hidden) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, advance=done)


def _progress(console: Console, *, hidden: bool = False) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = hidden or not console.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden)


def run_until_stopped(work: Coroutine[Any, Any, T], *, kept_in: Path) -> T:
    """Run a resumable coroutine; Ctrl-C says where what is finished lies, and ends with status 130."""
    try:
        with warnings.catch_warnings():
            # Of the SDK's calls that are cancelled when a run stops: nothing that a user could do anything about.
            warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
            return asyncio.run(work)
    except KeyboardInterrupt:
        errors.print(f"stopped; what is finished is in {kept_in}. Run the command again to go on.", soft_wrap=True)
        raise typer.Exit(130) from None
