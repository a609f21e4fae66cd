"""Foreign failures of model calls, translated into :class:`BackendError` in this one place.

Here is decided what a failure's status is, whether it may pass, whether the request would fit another model, how long
the provider asks to wait, and what of its words may be repeated: keys, query strings and internal addresses are not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json

from routellm_core.errors import BackendError, is_retryable_status
from routellm_core.providers.redaction import redacted

# Lost connections and time-outs: openai and anthropic, httpx, requests, botocore, google-api-core. Told by name,
# because none of these packages needs to be installed.
_CONNECTION_ERRORS = frozenset(
    {"APIConnectionError", "TransportError", "ConnectionError", "Timeout", "HTTPClientError", "ClientConnectionError"}
)
_ADVICE = {
    401: (
        ". Set the provider's key (an environment variable such as OPENAI_API_KEY, or api_key in the model's "
        "settings), or check that it is valid"
    ),
    404: ". Check the model's name and its api_base",
}
_LONGEST = 1000  # characters of a provider's text


# --- what a failure means ---------------------------------------------------------------------------------------------


def is_retryable(error: BaseException) -> bool:
    """Return whether the same request can succeed at the other model: time-out, lost connection, 408/409/425/429, 5xx.

    Everything else (a bad request, a missing key, a mistake in the program) would fail again or hide a mistake.
    """
    if isinstance(error, BackendError):
        return error.retryable
    status = status_of(error)
    if status is not None:
        return is_retryable_status(status)
    return isinstance(error, (TimeoutError, ConnectionError)) or _is_connection_error(error)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of any SDK carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        candidates = [(response.get("ResponseMetadata") or {}).get("HTTPStatusCode")]
    else:
        candidates = [getattr(error, "status_code", None), getattr(error, "code", None)]
        candidates.append(getattr(response, "status_code", None))
    for candidate in candidates:
        if isinstance(candidate, (int, str)) and str(candidate).isdigit() and 400 <= int(candidate) <= 599:
            return int(candidate)
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer's headers ask to wait: in milliseconds, in seconds or as a date."""
    lower = {str(name).lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(lower[name]) * unit)
        except (KeyError, TypeError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(lower["retry-after"]).timestamp() - time.time())
    except (KeyError, TypeError, ValueError):
        return None


# A request that asks for what this model cannot do and another one may.
_REQUEST_FAULTS = frozenset({400, 404, 413, 422})
_NEEDS_ANOTHER_MODEL = re.compile(
    r"context[ _](length|window)|maximum context|max_model_len|(prompt|input|request) is too (long|large)"
    r"|too many (input )?tokens|(exceed|longer than)\w* .{0,60}(token|context)|string_above_max_length"
    r"|not support(ed)?\b.{0,40}\b(image|vision|audio|file|video|tool|function|json|response_format|schema|modalit)"
    r"|(image|vision|audio|file|video|tool|function)\w*\b.{0,60}\bnot\b.{0,20}\bsupport"
    r"|support (image|audio|file|video|tool)"
    r"|(unsupported|unknown|unrecognized|unexpected)[ _](parameter|value|request argument|keyword argument)"
    r"|thought.?signature|encrypted.{0,3}content|previous_response"  # state that the other model holds
    r"|extra (inputs|fields) (are )?not permitted",
    re.IGNORECASE,
)


def _is_connection_error(error: BaseException) -> bool:
    return any(base.__name__ in _CONNECTION_ERRORS for base in type(error).__mro__)


def is_timeout(error: BaseException) -> bool:
    """Return whether an exception of any SDK says that the time was up."""
    return isinstance(error, TimeoutError) or any("Timeout" in base.__name__ for base in type(error).__mro__)


# --- the translation --------------------------------------------------------------------------------------------------


def refusal(
    status: int, headers: Mapping[str, str], content: bytes, label: str, secrets: Iterable[str] = ()
) -> BackendError:
    """Return the error for an answer over HTTP that says no.

    Args:
        status: of the answer; below 300 where an error came as an event of a stream.
        headers: of the answer.
        content: its body.
        label: the model that answered.
        secrets: keys that it was sent.
    """
    envelope = _envelope(content)
    if 300 <= status < 400:
        where = headers.get("Location", "nowhere")
        envelope = {"message": f"it redirects to {where}; set api_base to where the model is"}
    status = status if status >= 400 else _claimed_status(envelope)
    text = str(envelope.get("message") or content[:300].decode("utf-8", "replace").strip() or _phrase(status))
    return _built(label, status, text[:_LONGEST], secrets, sent=envelope, wait=retry_after(headers))


def backend_error(error: BaseException, *, model: str, secrets: Iterable[str] = ()) -> BackendError:
    """Translate any exception of an SDK's call.

    litellm's exceptions follow the OpenAI SDK's. Where the provider answered, its status is kept. Where it did not,
    litellm makes up a status; here a time-out becomes 504, a missing key 401, and a lost connection or an unreadable
    answer 502.

    Args:
        error: what the call raised.
        model: the model that was called.
        secrets: keys that it was sent.
    """
    if isinstance(error, BackendError):
        return error
    text = _first_line(error)
    headers = _response_headers(error)
    status = _status(error, text, headers)
    body = getattr(error, "body", None)
    names = ("code", "type", "param")
    sent = body if isinstance(body, Mapping) else {name: getattr(error, name, None) for name in names}
    provider = getattr(error, "llm_provider", None) or None
    translated = _built(model, status, text, secrets, sent=sent, wait=retry_after(headers), provider=provider)
    translated.is_timeout = not headers and is_timeout(error)
    translated.fits_elsewhere |= type(error).__name__ == "ContextWindowExceededError"
    return translated


def connection_error(error: BaseException, label: str, secrets: Iterable[str] = ()) -> BackendError:
    """Return the error for a call whose connection failed."""
    cause = redacted(f"{type(error).__name__}: {error}".rstrip(": "), secrets)
    message = f"the connection to model {label!r} failed: {cause}"
    return BackendError(message, model=label, status_code=502, retryable=True)


def timed_out(label: str, seconds: float, what: str = "did not answer") -> BackendError:
    """Return the error for a model that was too slow."""
    message = f"model {label!r} {what} within {seconds:g} s"
    return BackendError(message, model=label, status_code=504, retryable=True, is_timeout=True)


def not_understood(label: str, content: bytes) -> BackendError:
    """Return the error for an answer of a model that is not one of OpenAI's protocol."""
    shown = redacted(content[:80].decode("utf-8", "replace"))
    return unusable(label, f"answered with something that is no answer of OpenAI's protocol: {shown!r}")


def empty_stream(label: str) -> BackendError:
    """Return the error for a stream that held nothing."""
    return unusable(label, "sent an empty stream")


def broken_stream(label: str, why: str = "it ended without a finish_reason") -> BackendError:
    """Return the error for a stream that broke off, which must never pass for a whole answer."""
    return unusable(label, f"sent a stream that broke off: {why}")


def unusable(label: str, what: str) -> BackendError:
    """Return the error for an answer that cannot be used; ``what`` says what the model did."""
    return BackendError(f"model {label!r} {what}", model=label, status_code=502, retryable=True)


def _built(
    label: str,
    status: int,
    text: str,
    secrets: Iterable[str],
    *,
    sent: Mapping[str, Any],
    wait: float | None,
    provider: str | None = None,
) -> BackendError:
    text = redacted(text, secrets).rstrip(".")
    code, kind, param = (None if sent.get(key) is None else str(sent[key]) for key in ("code", "type", "param"))
    return BackendError(
        f"model {label!r} failed with status {status}: {text}{_ADVICE.get(status, '')}",
        model=label,
        status_code=status,
        retryable=is_retryable_status(status),
        provider=provider,
        code=code,
        error_type=kind,
        param=param,
        retry_after=wait,
        fits_elsewhere=status in _REQUEST_FAULTS and bool(_NEEDS_ANOTHER_MODEL.search(f"{code or ''} {text}")),
    )


def _envelope(content: bytes) -> Mapping[str, Any]:
    """Return the error object of OpenAI's envelope, or of one of the forms that compatible servers use."""
    try:
        body = from_json(content)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    failed = body.get("response")  # an event `response.failed`
    error = (failed.get("error") if isinstance(failed, dict) else None) or body.get("error") or body
    if isinstance(error, dict):
        return {**error, "message": error.get("message") or error.get("detail")}
    return {"message": error}


def _claimed_status(envelope: Mapping[str, Any]) -> int:
    for key in ("code", "status"):
        code = str(envelope.get(key, ""))
        if code.isdigit() and 400 <= int(code) <= 599:
            return int(code)
    said = f"{envelope.get('code')} {envelope.get('type')}"
    return 429 if "rate_limit" in said else 502


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


_CLASS_PREFIX = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception|Timeout)(?::| -) ")


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    # "litellm.APIError: APIError: OpenAIException - …"
    while (shorter := _CLASS_PREFIX.sub("", text, count=1)) != text:
        text = shorter
    return text.splitlines()[0][:500] if text else type(error).__name__


def _status(error: BaseException, text: str, headers: Mapping[str, str]) -> int:
    claimed = status_of(error) or 0
    if headers and claimed:
        return claimed
    if is_timeout(error):
        return 504
    if "missing credentials" in text.lower() or "api_key client option must be set" in text.lower():
        return 401
    return claimed if 400 <= claimed < 500 else 502


def _response_headers(error: BaseException) -> Mapping[str, str]:
    headers = getattr(error, "litellm_response_headers", None)
    if not headers:
        headers = getattr(getattr(error, "response", None), "headers", None)
    return headers or {}
