"""The beginning of a stream: read until it says something, while another model can still answer in its place."""

from __future__ import annotations

import time
from collections import deque
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
    ends = time.monotonic() + seconds
    try:
        for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return _Resumed(held, pieces), None
            if time.monotonic() > ends:
                raise timed_out(name, seconds, "did not begin to answer")
    except BaseException:
        _close(pieces)
        raise
    if not held:
        raise empty_stream(name)
    return _Resumed(held, iter(())), reading.emptiness(held)


async def aopened(
    pieces: AsyncIterator[T], reading: Reading, *, name: str
) -> tuple[AsyncIterator[T], Emptiness | None]:
    """Do as :func:`opened` does, without blocking the event loop; the caller limits the time."""
    held: list[T] = []
    try:
        async for piece in pieces:
            held.append(piece)
            if reading.is_content(piece):
                return _AsyncResumed(held, pieces), None
    except BaseException:
        await _aclose(pieces)
        raise
    if not held:
        raise empty_stream(name)
    return _AsyncResumed(held, None), reading.emptiness(held)


class _Resumed(Iterator[T]):
    """A stream whose first pieces were read; unlike a generator, it can be closed before it is begun."""

    def __init__(self, held: Sequence[T], rest: Iterator[T]) -> None:
        self._held, self._rest = deque(held), rest

    def __next__(self) -> T:
        return self._held.popleft() if self._held else next(self._rest)

    def close(self) -> None:
        self._held.clear()
        rest, self._rest = self._rest, iter(())
        _close(rest)


class _AsyncResumed(AsyncIterator[T]):
    def __init__(self, held: Sequence[T], rest: AsyncIterator[T] | None) -> None:
        self._held, self._rest = deque(held), rest

    async def __anext__(self) -> T:
        if self._held:
            return self._held.popleft()
        if self._rest is None:
            raise StopAsyncIteration
        return await self._rest.__anext__()

    async def aclose(self) -> None:
        self._held.clear()
        rest, self._rest = self._rest, None
        if rest is not None:
            await _aclose(rest)


def _close(pieces: Any) -> None:
    if hasattr(pieces, "close"):
        pieces.close()


async def _aclose(pieces: Any) -> None:
    if hasattr(pieces, "aclose"):
        await pieces.aclose()
