"""Answers with their decision attached: ``response.routing``, and the same on a stream and on its first chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from copy import copy
from typing import Any

from pydantic_core import to_json

from routellm_core.turns import Recorder
from routellm_core.types import RoutingDecision


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


_MARKED_FIELDS = ("tool_calls", "thinking_blocks", "reasoning_details", "provider_specific_fields")


class _Routed:
    def __init__(self, chunks: Any, routing: RoutingDecision, recorder: Recorder | None = None) -> None:
        self.routing = routing
        self._chunks = chunks
        self._recorder = recorder
        self._is_first = True

    def _recorder_of(self, chunk: Any) -> Recorder | None:
        """Return what takes in a chunk: the first one, and each that holds more than text (tool calls, signatures)."""
        choices = getattr(chunk, "choices", None)
        delta = getattr(choices[0], "delta", None) if choices else None
        is_marked = self._is_first or any(getattr(delta, name, None) for name in _MARKED_FIELDS)
        return self._recorder if is_marked else None

    def _stamped(self, chunk: Any) -> Any:
        was_first, self._is_first = self._is_first, False
        return attach_decision(chunk, self.routing) if was_first else chunk


class RoutedStream(_Routed, Iterator[Any]):
    """A stream of chat completion chunks that knows its decision.

    Attributes:
        routing: the decision; known before the first chunk is read.
    """

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        if (recorder := self._recorder_of(chunk)) is not None:
            recorder.saw(answer_content(chunk))
        return self._stamped(chunk)

    def close(self) -> None:
        """Stop reading and free the connection."""
        if hasattr(self._chunks, "close"):
            self._chunks.close()

    def __enter__(self) -> RoutedStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncRoutedStream(_Routed, AsyncIterator[Any]):
    """The asynchronous twin of :class:`RoutedStream`."""

    async def __anext__(self) -> Any:
        chunk = await anext(self._chunks)
        if (recorder := self._recorder_of(chunk)) is not None:
            await recorder.asaw(answer_content(chunk))
        return self._stamped(chunk)

    async def aclose(self) -> None:
        """Stop reading and free the connection."""
        if hasattr(self._chunks, "aclose"):
            await self._chunks.aclose()

    async def __aenter__(self) -> AsyncRoutedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
