"""Answers with their decision attached: ``response.routing``, and the same on a stream and on its first chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from copy import copy
from types import TracebackType
from typing import Any

from pydantic_core import to_json

from routellm_core.turns import Recorder
from routellm_core.types import RoutingDecision

__all__ = ["AsyncRoutedStream", "RoutedStream", "answer_content", "attach_decision"]


def attach_decision(response: Any, decision: RoutingDecision) -> Any:
    """Return a copy of a response with the decision as its ``routing``.

    A copy, because others may be reading the response itself: litellm's thread does, to log it. litellm's and OpenAI's
    response objects keep the decision as an extra field, so that ``response.model_dump()["routing"]`` has it too.
    """
    copied = response.model_copy() if hasattr(response, "model_copy") else copy(response)
    copied.routing = decision
    return copied


def answer_content(answer: Any) -> bytes:
    """Return an answer or a chunk of a stream as JSON, or nothing where it is none of an SDK's objects."""
    dump = getattr(answer, "model_dump", None)
    return to_json(dump(mode="json", warnings=False)) if callable(dump) else b""


def _has_marks(chunk: Any) -> bool:
    """Return whether a chunk holds more than text: tool calls, signatures."""
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return any(getattr(delta, name, None) for name in _MARKED_FIELDS)


_MARKED_FIELDS = ("tool_calls", "thinking_blocks", "reasoning_details", "provider_specific_fields")


class RoutedStream:
    """A stream of chat completion chunks that knows its decision.

    Attributes:
        routing: the decision; known before the first chunk is read.
    """

    def __init__(self, chunks: Iterator[Any], routing: RoutingDecision, recorder: Recorder | None = None) -> None:
        self.routing = routing
        self._recorder = recorder
        self._chunks = chunks
        self._is_first = True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        if self._recorder is not None and (self._is_first or _has_marks(chunk)):
            self._recorder.saw(answer_content(chunk))
        if self._is_first:
            self._is_first = False
            return attach_decision(chunk, self.routing)
        return chunk

    def close(self) -> None:
        """Stop reading and free the connection."""
        close = getattr(self._chunks, "close", None)
        if close:
            close()

    def __enter__(self) -> RoutedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRoutedStream:
    """The asynchronous twin of :class:`RoutedStream`."""

    def __init__(self, chunks: AsyncIterator[Any], routing: RoutingDecision, recorder: Recorder | None = None) -> None:
        self.routing = routing
        self._recorder = recorder
        self._chunks = chunks
        self._is_first = True

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._chunks)
        if self._recorder is not None and (self._is_first or _has_marks(chunk)):
            await self._recorder.asaw(answer_content(chunk))
        if self._is_first:
            self._is_first = False
            return attach_decision(chunk, self.routing)
        return chunk

    async def aclose(self) -> None:
        """Stop reading and free the connection."""
        close = getattr(self._chunks, "aclose", None)
        if close:
            await close()

    async def __aenter__(self) -> AsyncRoutedStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
