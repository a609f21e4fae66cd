"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

__all__ = ["errors", "note", "output", "progress_bars", "run_until_stopped", "say"]

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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def report(thing: str, done: int, total: int) -> None:
            if thing not in tasks:
                tasks[thing] = progress.add_task(f"{doing} {thing}".rstrip())
            progress.update(tasks[thing], completed=done, total=total)

        yield report


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
