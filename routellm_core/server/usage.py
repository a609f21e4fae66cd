"""Token counts: asking for a stream's, reading them as it passes, and their one form for all operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

__all__ = ["StreamedUsage", "token_counts", "with_usage"]

_USAGE = re.compile(rb'"usage"\s*:\s*\{')  # within a string, the last quotation mark would have a backslash before it
_EVENT_END = re.compile(rb"\r?\n\r?\n")


def token_counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return ``{"input", "output"}`` of a usage object of either API; empty where it holds no numbers."""
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens", 0))
    if not isinstance(given, int) or not isinstance(made, int):
        return {}
    return {"input": given, "output": made}


def with_usage(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a streamed request that asks for its usage."""
    return {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}


class StreamedUsage:
    """Reads the usage out of a stream that passes by.

    Args:
        is_hidden: take the event that only carries the usage out of the stream, for a client that did not ask for it.

    Attributes:
        counts: as :func:`token_counts` returns them; empty until they came.
    """

    def __init__(self, *, is_hidden: bool) -> None:
        self.counts: dict[str, int] = {}
        self._is_hidden = is_hidden

    def passed(self, events: bytes) -> bytes:
        """Return what of these whole events goes on to the client."""
        kept = []
        # Without a look at the single events: nearly all pass here, one by one.
        while found := _USAGE.search(events):
            start = max(events.rfind(b"\n\n", 0, found.start()) + 2, events.rfind(b"\n\r\n", 0, found.start()) + 3)
            start = start if start > 2 else 0
            ending = _EVENT_END.search(events, found.end())
            end = ending.end() if ending else len(events)
            kept.append(events[: end if self._goes_on(events[start:end]) else start])
            events = events[end:]
        return b"".join([*kept, events]) if kept else events

    def _goes_on(self, event: bytes) -> bool:
        try:
            data = from_json(event[event.index(b"data:") + 5 :].strip())
        except ValueError:
            return True
        holder = data.get("response", data) if isinstance(data, dict) else {}
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            self.counts = token_counts(usage) or self.counts
        return not (self._is_hidden and isinstance(usage, dict) and data.get("choices") == [])
