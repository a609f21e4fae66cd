"""Token counts: asking for a stream's, reading them as it passes, and their one form for all operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from routellm_core.pricing import CHARACTERS_PER_TOKEN
from routellm_core.providers.events import Events, bounds, payload_of

__all__ = ["StreamedUsage", "estimated_input", "estimated_output", "token_counts", "with_usage"]

_READ_BY_MODELS = ("messages", "prompt", "input", "instructions", "system", "tools")
_ENCODED = frozenset({"data", "file_data", "image_url", "url", "b64_json"})
_CHARACTERS_OF_A_FILE = 4000
_USUAL_OUTPUT = 1024

_NOT_SAID = frozenset({"role", "id", "type", "index", "signature", "stop_reason"})


def token_counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens of a usage object of OpenAI's APIs or of Anthropic's; empty where it holds no numbers.

    Returns:
        ``input`` and ``output``; of the input, ``cached`` was read from a cache and ``written`` to one, if any.
    """
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens", 0))
    if not isinstance(given, int) or not isinstance(made, int):
        return {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    counts = {"input": given + cached + written, "output": made}  # Anthropic's input is without them
    cached += _count(details, "cached_tokens")
    return {**counts, **{kind: n for kind, n in (("cached", cached), ("written", written)) if n}}


def estimated_input(body: Mapping[str, Any]) -> int:
    """Estimate the tokens of a request from the length of its texts; an image or a file counts as a thousand."""
    waiting = [body.get(name) for name in _READ_BY_MODELS]
    characters = 0
    for value in waiting:  # it grows meanwhile
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict):
            waiting.extend(item for name, item in value.items() if name not in _ENCODED)
            characters += _CHARACTERS_OF_A_FILE * len(_ENCODED & value.keys())
        elif isinstance(value, list) and value and isinstance(value[0], int):  # tokens
            characters += int(CHARACTERS_PER_TOKEN) * len(value)
        elif isinstance(value, list):
            waiting.extend(value)
    return int(characters / CHARACTERS_PER_TOKEN)


def estimated_output(body: Mapping[str, Any]) -> int:
    """Estimate the tokens that a request may make: the most that it allows, else what is usual at most."""
    limits = (body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    limit = next((value for value in limits if isinstance(value, int) and value >= 0), _USUAL_OUTPUT)
    answers = body.get("n")
    return limit * (answers if isinstance(answers, int) and answers > 0 else 1)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) else 0


def with_usage(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a streamed request that asks for its usage."""
    return {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}


class StreamedUsage:
    """Reads the usage out of a stream that passes by.

    Args:
        is_hidden: take the event that only carries the usage out of the stream, for a client that did not ask for it.

    Attributes:
        counts: as :func:`token_counts` returns them; empty until they came.
        characters: how long what passed was.
    """

    def __init__(self, *, is_hidden: bool) -> None:
        self.counts: dict[str, int] = {}
        self.characters = 0
        self._usage: dict[str, Any] = {}
        self._is_hidden = is_hidden

    @property
    def made(self) -> int:
        """An estimate of the tokens that passed."""
        return math.ceil(self.characters / CHARACTERS_PER_TOKEN)

    def passed(self, events: Events) -> bytes:
        """Return what of these events goes on to the client."""
        hides = False
        for data in events.data:
            holder = data.get("response") or data.get("message") or data
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict):
                # Anthropic's comes in two parts.
                self._usage |= {name: value for name, value in usage.items() if value is not None}
                self.counts = token_counts(self._usage) or self.counts
                hides = hides or (self._is_hidden and data.get("choices") == [])
            self.characters += _characters(data)
        return _without_usage(events.raw) if hides else events.raw


def _characters(data: Mapping[str, Any]) -> int:
    choices = (choice for choice in data.get("choices") or () if isinstance(choice, dict))
    said = [data.get("delta"), *(choice.get("delta") or choice.get("text") for choice in choices)]
    found = 0
    for value in said:  # it grows meanwhile
        if isinstance(value, str):
            found += len(value)
        elif isinstance(value, dict):
            said.extend(item for name, item in value.items() if name not in _NOT_SAID)
        elif isinstance(value, list):
            said.extend(value)
    return found


def _without_usage(raw: bytes) -> bytes:
    events = (raw[start:end] for start, end in bounds(raw))
    return b"".join(event for event in events if b'"usage"' not in event or not _is_usage(payload_of(event)))


def _is_usage(payload: bytes) -> bool:
    try:
        data = from_json(payload)
    except ValueError:
        return False
    return isinstance(data, dict) and isinstance(data.get("usage"), dict) and data.get("choices") == []
