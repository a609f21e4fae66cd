"""OpenAI's error envelope, all four keys, for everything that can go wrong before, in and behind the server."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from routellm_core.errors import BackendError, RouteLLMError, RoutingError, ScoringError
from routellm_core.providers.redaction import redacted

__all__ = ["RequestError", "envelope", "error_event", "error_response", "status_of"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
}


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
        message = str(error) if isinstance(error, RouteLLMError) else "internal error; the server's log has the cause"
    kind = error.error_type if isinstance(error, BackendError) else None
    return {
        "error": {
            "message": redacted(message),
            "type": kind or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }


def error_response(error: Exception, headers: dict[str, str] | None = None) -> Response:
    """Return the answer that tells a client of ``error``."""
    headers = {**(getattr(error, "headers", None) or {}), **(headers or {})}
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(math.ceil(seconds))
    if (should_retry := getattr(error, "should_retry", None)) is not None:
        headers["x-should-retry"] = str(should_retry).lower()
    if status_of(error) == 401 and isinstance(error, RequestError):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        to_json(envelope(error)), status_code=status_of(error), headers=headers, media_type="application/json"
    )


def error_event(error: Exception) -> bytes:
    """Return the event that tells of ``error`` in the middle of a stream."""
    return b"data: " + to_json(envelope(error)) + b"\n\n"
