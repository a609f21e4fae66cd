"""What goes wrong when an OpenAI-compatible server is called over HTTP, as :class:`BackendError`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json

from routellm_core.errors import BackendError, is_retryable_status
from routellm_core.providers.endpoints import OpenAIEndpoint
from routellm_core.providers.settings import ModelSettings

__all__ = ["connection_error", "not_understood", "refusal"]


def refusal(
    status: int, headers: Mapping[str, str], content: bytes, model: ModelSettings, endpoint: OpenAIEndpoint
) -> BackendError:
    """Return the error for an answer that says no; secrets that it quotes are cut out.

    Args:
        status: of the answer; below 300 where an error came as an event of a stream.
        headers: of the answer.
        content: its body.
        model: who answered.
        endpoint: where.
    """
    envelope = _envelope(content)
    is_redirection = 300 <= status < 400
    status = status if status >= 400 else _claimed_status(envelope)
    text = str(envelope.get("message") or content[:300].decode("utf-8", "replace").strip() or _phrase(status))
    if is_redirection:
        text = f"it redirects to {headers.get('Location', 'nowhere')}; set api_base to where the model is"
    return BackendError(
        f"model {model.model!r} failed with status {status}: {endpoint.without_secrets(text[:1000]).rstrip('.')}",
        model=model.model,
        status_code=status,
        retryable=is_retryable_status(status),
        code=_text_or_none(envelope.get("code")),
        error_type=_text_or_none(envelope.get("type")),
        param=_text_or_none(envelope.get("param")),
        retry_after=_seconds(headers.get("Retry-After")),
    )


def connection_error(error: Exception, model: ModelSettings, *, is_timeout: bool) -> BackendError:
    """Return the error for a call that no answer came to."""
    if is_timeout:
        return BackendError(
            f"model {model.model!r} did not answer within {model.timeout:g} s",
            model=model.model,
            status_code=504,
            retryable=True,
        )
    cause = f"{type(error).__name__}: {error}".rstrip(": ")
    return BackendError(
        f"the connection to model {model.model!r} failed: {cause}", model=model.model, status_code=502, retryable=True
    )


def not_understood(label: str, content: bytes) -> BackendError:
    """Return the error for an answer of a model that is not one of OpenAI's protocol."""
    shown = content[:80].decode("utf-8", "replace")
    return BackendError(
        f"model {label!r} answered with something that is no answer of OpenAI's protocol: {shown!r}",
        model=label,
        status_code=502,
        retryable=True,
    )


def _envelope(content: bytes) -> Mapping[str, Any]:
    """Return the error object of OpenAI's envelope, or of one of the forms that compatible servers use."""
    try:
        body = from_json(content)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    if isinstance(error, dict):
        return {**error, "message": error.get("message") or error.get("detail")}
    return {"message": error}


def _claimed_status(envelope: Mapping[str, Any]) -> int:
    code = str(envelope.get("code", ""))
    return int(code) if code.isdigit() and 400 <= int(code) <= 599 else 502


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value or ""))
    except ValueError:  # absent, or a date, which no provider here sends
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
