"""Streams of OpenAI's protocol: their events, whether they say something, and whether they came to their end."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic_core import from_json

from routellm_core.errors import BackendError
from routellm_core.providers.errors import broken_stream, not_understood, refusal

logger = logging.getLogger(__name__)

Emptiness: TypeAlias = Literal["empty", "filtered"]
"""Why an answer holds nothing: it just does, or the provider's filter took it."""

_LONGEST_EVENT = 32 * 2**20  # a generated image is one event
_END = re.compile(rb"\r?\n\r?\n")
_CALL = re.compile(rb"tool_calls|function_call|arguments")
_SAID = ("content", "tool_calls", "function_call", "refusal", "audio", "images")
# Of the Responses API: what comes before anything is said.
_PREAMBLE = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "keepalive",
        "error",
        "response.failed",
    }
)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class Events(NamedTuple):
    """What one piece of a stream held.

    Attributes:
        raw: its whole events, as they came.
        data: what their JSON says.
        error: what ends the stream after them.
    """

    raw: bytes
    data: Sequence[dict[str, Any]]
    error: BackendError | None = None


class EventReader:
    """Cuts a stream into whole events, so that nothing is ever cut within one, and follows what they say.

    One event that is no JSON is passed over where that loses no more than a piece of text; a second one, or one within
    a tool call, ends the stream with an error.

    Args:
        operation: the path of OpenAI's operation.
        label: the model's name, for errors.
        secrets: keys that the model was sent.

    Attributes:
        progress: how far the answer has come.
    """

    def __init__(self, operation: str, label: str, secrets: Sequence[str] = ()) -> None:
        self.progress = Progress(operation)
        self._label = label
        self._secrets = secrets
        self._pending = b""
        self._broken = 0
        self._last = b""

    def feed(self, piece: bytes) -> Events:
        """Return the events that are whole with this piece of the stream."""
        if self._pending:
            piece = self._pending + piece
        elif 0 < piece.find(b"\n\n") == len(piece) - 2 and b"\r" not in piece:  # one event, as nearly always
            try:
                found = self._read(piece)
            except BackendError as error:
                return Events(b"", (), error)
            return Events(b"", ()) if found is _BROKEN else Events(piece, () if found is None else (found,))
        kept: list[bytes] = []
        data: list[dict[str, Any]] = []
        end = 0
        for start, end in bounds(piece):
            raw = piece[start:end]
            try:
                found = self._read(raw)
            except BackendError as error:
                return Events(b"".join(kept), data, error)
            if found is not _BROKEN:
                kept.append(raw)
                if found is not None:
                    data.append(found)
        self._pending = piece[end:]
        if len(self._pending) > _LONGEST_EVENT:
            return Events(b"".join(kept), data, not_understood(self._label, self._pending))
        return Events(kept[0] if len(kept) == 1 else b"".join(kept), data)

    def close(self) -> Events:
        """Return what is left at the stream's end.

        Its ``error`` tells of an answer that broke off.
        """
        left = self.feed(b"\n\n") if self._pending.strip() else Events(b"", ())
        if left.error is None and not self.progress.is_complete and self.progress.events:
            return left._replace(error=broken_stream(self._label))
        return left

    def _read(self, raw: bytes) -> dict[str, Any] | None:
        payload = payload_of(raw)
        if not payload:
            return None  # a comment, which keeps the connection alive
        self.progress.events += 1
        if payload == b"[DONE]":
            self.progress.is_complete = True
            return None
        try:
            data = from_json(payload)
        except ValueError:
            self._broken += 1
            if self._broken > 1 or _CALL.search(payload) or _CALL.search(self._last):
                raise broken_stream(self._label, "an event in it is no JSON") from None
            logger.warning("model %r sent an event that is no JSON; it is left out", self._label)
            return _BROKEN
        if not isinstance(data, dict):
            return None
        kind = data.get("type")
        # A response that failed after it said something is an answer, which the client reads for itself.
        has_failed = kind == "response.failed" and not self.progress.has_content
        if has_failed or kind == "error" or data.get("error"):
            raise refusal(200, {}, payload, self._label, self._secrets)
        self.progress.note(data)
        self._last = payload
        return data


_BROKEN: dict[str, Any] = {}


class Progress:
    """How far a streamed answer has come.

    Attributes:
        events: how many events there were.
        has_content: whether something was said: text, reasoning, a tool call; not yet by a role alone.
        is_complete: whether the answer came to its end.
    """

    __slots__ = ("_operation", "events", "has_content", "is_complete")

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self.events = 0
        self.has_content = False
        self.is_complete = False

    def note(self, data: Mapping[str, Any]) -> None:
        """Take in what an event says."""
        kind = data.get("type")
        if self._operation == "messages":  # Anthropic's
            begins_call = kind == "content_block_start" and "name" in (data.get("content_block") or {})
            self.has_content = self.has_content or begins_call or kind == "content_block_delta"
            self.is_complete = self.is_complete or kind == "message_stop"
            return
        if self._operation == "responses":
            self.has_content = self.has_content or (kind not in _PREAMBLE and kind not in _ENDS)
            self.is_complete = self.is_complete or kind in _ENDS
            return
        for choice in data.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            if not self.has_content:
                self.has_content = says_something(choice)
            if choice.get("finish_reason"):
                self.is_complete = True


def whole_answer(content: bytes, operation: str, label: str) -> dict[str, Any]:
    """Return an answer that was not streamed.

    Raises:
        BackendError: it is none of OpenAI's protocol.
    """
    try:
        body = from_json(content)
    except ValueError:
        body = None
    expected = {"responses": "output", "embeddings": "data"}.get(operation, "choices")
    found = body.get(expected) if isinstance(body, dict) else None
    if not isinstance(found, list) or (expected == "choices" and not found):
        raise not_understood(label, content)
    return body  # type: ignore[no-any-return]


def says_something(choice: Mapping[str, Any]) -> bool:
    """Return whether a streamed choice holds more than a role, such as text, reasoning or a tool call."""
    delta = choice.get("delta") or {}
    return bool(choice.get("text")) or any(value for name, value in delta.items() if name != "role")


def emptiness(answers: Sequence[Mapping[str, Any]]) -> Emptiness | None:
    """Return why an answer holds nothing, or None where it holds something.

    Reasoning alone is nothing: an answer that spent its ``max_tokens`` on it is as empty as one without a word.

    Args:
        answers: a completion or a response of OpenAI's API, or all chunks of one.
    """
    finishes = set()
    for answer in answers:
        if "output" in answer or "response" in answer:
            response = answer.get("response") or answer
            if response.get("status") in ("queued", "in_progress") or any(
                map(_is_output, response.get("output") or ())
            ):
                return None
            finishes.add((response.get("incomplete_details") or {}).get("reason"))
        for choice in answer.get("choices") or ():
            said = choice.get("message") or choice.get("delta") or {}
            if any(_holds(said.get(name)) for name in _SAID) or _holds(choice.get("text")):
                return None
            finishes.add(choice.get("finish_reason"))
    return "filtered" if "content_filter" in finishes else "empty"


def _is_output(item: Any) -> bool:
    if not isinstance(item, Mapping) or item.get("type") == "reasoning":
        return False
    if item.get("type") != "message":
        return True
    return any(_holds(part.get("text") or part.get("refusal")) for part in item.get("content") or ())


def _holds(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def bounds(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each whole event begins and ends."""
    start = 0
    if b"\r" not in data:
        while (end := data.find(b"\n\n", start)) >= 0:
            yield start, end + 2
            start = end + 2
        return
    for found in _END.finditer(data):
        yield start, found.end()
        start = found.end()


def payload_of(raw: bytes) -> bytes:
    """Return the data of an event; several lines of it belong together."""
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2:
        return raw[6:-2].strip()
    lines = (line for line in raw.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].strip() for line in lines)
