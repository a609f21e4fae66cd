"""OpenAI's error envelope, all four keys, for everything that can go wrong before, in and behind the server."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from routellm_core.errors import BackendError, RouteLLMError, RoutingError, ScoringError
from routellm_core.providers.redaction import redacted

__all__ = [
    "SHUTTING_DOWN",
    "RequestError",
    "envelope",
    "error_event",
    "error_response",
    "is_anthropic",
    "is_shutdown",
    "status_of",
]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
}

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_ABOUT_THE_REQUEST = frozenset({400, 409, 413, 415, 422, 429})
_FAILURES = {
    401: "did not accept this server's key",
    403: "did not accept this server's key",
    404: "was not found at its provider",
    502: "could not be reached or understood",
    504: "did not answer in time",
}
_SEE_LOG = "; the server's log has the cause"


class RequestError(RouteLLMError):
    """A request that the server refuses itself.

    Attributes:
        status: the HTTP status.
        param: the field at fault, if one is.
        code: a machine-readable cause.
        retry_after: seconds after which the request may be accepted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after


SHUTTING_DOWN = RequestError("the server is shutting down", status=503, code="shutting_down", retry_after=1.0)


def status_of(error: Exception) -> int:
    """Return the HTTP status that tells a client of ``error``."""
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, (BackendError, HTTPException)):
        return error.status_code
    if isinstance(error, ScoringError):
        return 503
    return 400 if isinstance(error, RoutingError) else 500


def envelope(error: Exception) -> dict[str, Any]:
    """Return ``{"error": {"message", "type", "param", "code"}}``.

    Secrets are cut out, and what an unforeseen exception says stays in the log.
    """
    status = status_of(error)
    if isinstance(error, HTTPException):
        message = {404: "no such path", 405: "this path does not take this method"}.get(status, str(error.detail))
    else:
        message = _words_for(error, status)
    kind = error.error_type if isinstance(error, BackendError) else None
    return {
        "error": {
            "message": redacted(message),
            "type": kind or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }


def _words_for(error: Exception, status: int) -> str:
    """Return what a client is told: of a model's own words, only those about its request.

    What else goes wrong behind the server names hosts and settings that are no matter of a client.
    """
    if isinstance(error, ScoringError):
        return f"the prompt could not be scored{_SEE_LOG}"
    if isinstance(error, BackendError) and status not in _ABOUT_THE_REQUEST:
        return f"model {error.model!r} {_FAILURES.get(status, f'failed with status {status}')}{_SEE_LOG}"
    return str(error) if isinstance(error, RouteLLMError) else f"internal error{_SEE_LOG}"


def is_anthropic(scope: Scope) -> bool:
    """Return whether a path is one of Anthropic's API, whose envelope is another."""
    return "/v1/messages" in scope["path"]


def error_response(error: Exception, headers: dict[str, str] | None = None, *, is_anthropic: bool = False) -> Response:
    """Return the answer that tells a client of ``error``, in OpenAI's envelope or in Anthropic's."""
    headers = {**(getattr(error, "headers", None) or {}), **(headers or {})}
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(math.ceil(seconds))
    if (should_retry := getattr(error, "should_retry", None)) is not None:
        headers["x-should-retry"] = str(should_retry).lower()
    if status_of(error) == 401 and isinstance(error, RequestError):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        _told(error, is_anthropic=is_anthropic),
        status_code=status_of(error),
        headers=headers,
        media_type="application/json",
    )


def is_shutdown(error: asyncio.CancelledError) -> bool:
    """Return whether a request is cancelled since the server's time to finish is over; uvicorn says so."""
    return any("shutdown" in str(said) for said in error.args)


def error_event(error: Exception, *, is_anthropic: bool = False) -> bytes:
    """Return the event that tells of ``error`` in the middle of a stream."""
    name = b"event: error\n" if is_anthropic else b""
    return name + b"data: " + _told(error, is_anthropic=is_anthropic) + b"\n\n"


def _told(error: Exception, *, is_anthropic: bool) -> bytes:
    body = envelope(error)
    if not is_anthropic:
        return to_json(body)
    status = status_of(error)
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return to_json({"type": "error", "error": {"type": kind, "message": body["error"]["message"]}})
