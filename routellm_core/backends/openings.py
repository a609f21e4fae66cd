"""The beginning of a stream: read until it says something, while another model can still answer in its place."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar

from routellm_core.backends.resilience import Reading
from routellm_core.providers.errors import empty_stream, timed_out
from routellm_core.providers.events import Emptiness

__all__ = ["aopened", "opened"]

T = TypeVar("T")


def opened(pieces: Iterator[T], reading: Reading, *, name: str, seconds: float) -> tuple[Iterator[T], Emptiness | None]:
    """Read a stream until it says something, while another model can still answer in its place.

    Args:
        pieces: the stream.
        reading: what its pieces say.
        name: the model's, for errors.
        seconds: that it has until then; watched as pieces come, for a blocking read ends by its own limit.

    Returns:
        the stream from its beginning, and why it holds nothing where it ended before it said something.

    Raises:
        BackendError: it broke off, held nothing at all or took too long.
    """
    held: list[T] = []
    stream: Any = _resumed(held, pieces)
    next(stream)
    ends = time.monotonic() + seconds
    try:
        for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return stream, None
            if time.monotonic() > ends:
                raise timed_out(name, seconds, "did not begin to answer")
    except BaseException:
        stream.close()
        raise
    if not held:
        raise empty_stream(name)
    return stream, reading.emptiness(held)


async def aopened(
    pieces: AsyncIterator[T], reading: Reading, *, name: str
) -> tuple[AsyncIterator[T], Emptiness | None]:
    """Do as :func:`opened` does, without blocking the event loop; the caller limits the time."""
    held: list[T] = []
    stream: Any = _aresumed(held, pieces)
    await anext(stream)
    try:
        async for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return stream, None
    except BaseException:
        await stream.aclose()
        raise
    if not held:
        raise empty_stream(name)
    return stream, reading.emptiness(held)


def _resumed(held: Sequence[T], rest: Iterator[T]) -> Iterator[T]:
    try:
        yield held  # type: ignore[misc]  # taken by the caller: a generator that was not begun cannot be closed
        yield from held
        yield from rest
    finally:
        if hasattr(rest, "close"):
            rest.close()


async def _aresumed(held: Sequence[T], rest: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        yield held  # type: ignore[misc]
        for piece in held:
            yield piece
        async for piece in rest:
            yield piece
    finally:
        if hasattr(rest, "aclose"):
            await rest.aclose()
