"""What DSPy's requests and answers say, as the core reads them; and its errors, in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import (
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    LockTimeoutError,
    Message,
    ProviderError,
    RateLimitError,
    Request,
    Response,
    ServerError,
    StreamEndEvent,
    StreamStartEvent,
    TransportError,
)
from dspy.lm15 import TimeoutError as ProviderTimeoutError
from dspy.utils.exceptions import LMError, is_retryable_lm_error
from pydantic_core import to_json

from dspy_routellm.fields import Asked
from routellm_core.errors import BackendError, UnfittingRequestError
from routellm_core.prompts import routing_prompt
from routellm_core.providers.errors import status_of
from routellm_core.providers.events import Emptiness
from routellm_core.turns import Turn

__all__ = ["ResponseReading", "UnreadableAnswerError", "dspy_errors", "marked", "routed_on", "turn_of", "unsigned"]

_TEXT = "dspy_text"
_MEDIA = {"image": "image_url", "audio": "input_audio", "video": "video_url", "document": "file"}


class UnreadableAnswerError(ProviderError):
    """A model answered with something that is no chat completion."""


# --- requests ---------------------------------------------------------------------------------------------------------


def turn_of(request: Request, asked: Asked, parameters: Mapping[str, Any]) -> Turn:
    """Read a request.

    Of a prompt that an adapter rendered, the question alone is the conversation, with what models and tools said after
    it; demonstrations and instructions stand before it. The loop of a module is told from others by the program that
    runs it, and its question.

    Args:
        request: what DSPy's LM layer hands to an engine.
        asked: what it asks.
        parameters: of the call, by OpenAI's names.
    """
    sent = [_written(message) for message in request.messages]
    system = request.system if isinstance(request.system, str) else " ".join(map(str, request.system or ()))
    given = {"max_tokens": request.config.max_tokens, "instructions": system, **parameters, "messages": sent}
    if request.tools:
        given["tools"] = [{"name": tool.name} for tool in request.tools]
    session, conversation = None, sent
    if asked.is_rendered or asked.text is None:
        later = sent[len(sent) if asked.index is None else asked.index + 1 :]
        working = [{"role": "assistant", "content": ""}] if asked.is_under_way else []
        conversation = [{"role": "user", "content": asked.text or "", _TEXT: asked.text}, *working, *later]
        program = next(iter(dspy.settings.caller_modules or ()), None)
        session = f"{id(program)}:{asked.text}"
    return Turn.of(conversation, given, session=session)


def routed_on(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the text that a conversation is routed on: that of the input fields, as it is, where there are any."""
    fields = next((message for message in messages if _TEXT in message), None)
    return routing_prompt(messages) if fields is None else fields[_TEXT]


def unsigned(request: Request) -> Request:
    """Return the request without what only the model can read that wrote it: thinking, signatures."""
    return replace(request, messages=tuple(map(_plain, request.messages)))


def _plain(message: Message) -> Message:
    if message.role != "assistant":
        return message
    parts = (replace(part, continuation=None) for part in message.parts if part.type != "thinking")
    return replace(message, parts=tuple(parts), continuation=None)


def _written(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": [_part(part) for part in message.parts]}
    calls = [{"id": part.id} for part in message.parts if part.type == "tool_call"]
    results = [part.id for part in message.parts if part.type == "tool_result"]
    if calls:
        entry["tool_calls"] = calls
    if results:
        entry |= {"role": "tool", "tool_call_id": results[-1]}
    held = [item for item in (message.continuation, *(part.continuation for part in message.parts)) if item]
    return {**entry, "extras": [{"signature": str(item)} for item in held]} if held else entry


def _part(part: Any) -> dict[str, Any]:
    return {"type": _MEDIA.get(part.type, part.type), **({"text": part.text} if hasattr(part, "text") else {})}


# --- answers ----------------------------------------------------------------------------------------------------------


class ResponseReading:
    """What DSPy's answers say; see :class:`routellm_core.adapters.AnswerReading`."""

    def is_content(self, piece: Any) -> bool:
        """Return whether an event of a stream says something."""
        return not isinstance(piece, (StreamStartEvent, StreamEndEvent))

    def emptiness(self, answer: Any) -> Emptiness | None:
        """Return why an answer, or all events of a stream, hold nothing."""
        if isinstance(answer, Response) and _says_something(answer):
            return None
        last = answer[-1] if isinstance(answer, list) else answer
        return "filtered" if getattr(last, "finish_reason", None) == "content_filter" else "empty"

    def marks(self, piece: Any) -> bytes:
        """Return the ids and signatures of an answer as JSON."""
        if not isinstance(piece, Response):
            return b""
        entry = _written(piece.message)
        kept = {name: entry[name] for name in ("tool_calls", "extras") if name in entry}
        return to_json(kept, fallback=str) if kept else b""


def _says_something(response: Response) -> bool:
    parts = response.message.parts
    return bool((response.text or "").strip() or response.tool_calls) or any(
        part.type not in ("text", "thinking", "tool_call") for part in parts
    )


# --- errors -----------------------------------------------------------------------------------------------------------

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (RateLimitError, 429),
    (ServerError, 500),
    (ProviderTimeoutError, 504),
    (TransportError, 502),
    (LockTimeoutError, 503),
    (UnreadableAnswerError, 502),
)


@contextmanager
def marked() -> Iterator[None]:
    """Note on an error what the core's loop has to know of it: its status, and whether another model may do better."""
    try:
        yield
    except Exception as error:
        known = getattr(error, "status", None)
        known = known if isinstance(known, int) else status_of(error)
        if known is None:
            known = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
        if known is None and is_retryable_lm_error(error):
            known = 503
        if known is not None and status_of(error) is None:
            error.status_code = known  # type: ignore[attr-defined]
        if isinstance(error, ProviderTimeoutError):
            error.is_timeout = True  # type: ignore[attr-defined]
        if isinstance(error, ContextLengthError):
            error.fits_elsewhere = True  # type: ignore[attr-defined]
        raise


@contextmanager
def dspy_errors() -> Iterator[None]:
    """Raise what goes wrong within as DSPy knows errors: the core's by their status, and with all that was said."""
    try:
        yield
    except (BackendError, UnfittingRequestError) as error:
        raise _translated(error) from error.__cause__
    except (LM15Error, LMError) as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        if not notes or not isinstance(error, LM15Error):
            raise
        said, line, advice = error.message.partition("\n")
        told = f"{said}. {notes}{line}{advice}"
        raise type(error)(
            told, provider=error.provider, status=error.status, retry_after=error.retry_after
        ) from error.__cause__


def _translated(error: BackendError | UnfittingRequestError) -> LM15Error:
    if isinstance(error, UnfittingRequestError):
        kind = ContextLengthError if error.code == "context_length_exceeded" else InvalidRequestError
        return kind(str(error), status=400)
    kinds = {429: RateLimitError, 504: ProviderTimeoutError}
    passing = ServerError if error.retryable else InvalidRequestError
    return kinds.get(error.status_code or 0, passing)(
        str(error), status=error.status_code, retry_after=error.retry_after
    )
