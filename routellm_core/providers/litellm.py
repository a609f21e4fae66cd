"""The one door to litellm: imported on first use, and its exceptions translated into :class:`BackendError`."""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from routellm_core.errors import BackendError, BrokenPackageError, is_retryable_status

__all__ = ["backend_error", "import_litellm"]

_import_lock = threading.Lock()
_BASE64_WARNING = r"Pydantic serializer warnings:\s+PydanticSerializationUnexpectedValue\(Expected `list\[float\]`"
_LOCAL_MAP = "LITELLM_LOCAL_MODEL_COST_MAP"


def import_litellm() -> Any:
    """Import litellm (seconds, so never at our own import); afterwards every call costs a look-up.

    Raises:
        BrokenPackageError: that fails.
    """
    with _import_lock:  # its own import is not safe under concurrent first calls from several threads
        return _imported_once()


@cache
def _imported_once() -> Any:
    """Import litellm and silence its console advertisements.

    While it is imported, litellm fetches a price map from the internet, with seconds of retries and warnings where
    there is none. Nothing here needs that map, so its switch for the bundled one is set for the duration of the
    import, unless the user has set it either way or imported litellm before.
    """
    is_ours = _LOCAL_MAP not in os.environ and "litellm" not in sys.modules
    if is_ours:
        os.environ[_LOCAL_MAP] = "True"
    try:
        import litellm
    except Exception as error:  # whatever it, or one of its many dependencies, raises while it is imported
        raise BrokenPackageError("litellm", error) from error
    finally:
        if is_ours:
            del os.environ[_LOCAL_MAP]
    litellm.suppress_debug_info = True
    # The OpenAI SDK declares an embedding as a list and warns at every one that came in base64, as asked for.
    warnings.filterwarnings("ignore", message=_BASE64_WARNING, category=UserWarning)
    return litellm


_CLASS_PREFIX = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception|Timeout)(?::| -) ")


def backend_error(error: Exception, *, model: str) -> BackendError:
    """Translate any exception of a provider call.

    litellm's exceptions follow the OpenAI SDK's. Where the provider answered, its status is kept. Where it did not,
    litellm makes up a status; here a time-out becomes 504, a missing key 401, and a lost connection or an unreadable
    answer 502.

    Args:
        error: what the call raised.
        model: the model that was called.
    """
    if isinstance(error, BackendError):
        return error
    text = _first_line(error)
    status = _status(error, text)
    body = getattr(error, "body", None)
    names = ("code", "type", "param")
    sent = body if isinstance(body, Mapping) else {name: getattr(error, name, None) for name in names}
    code, kind, param = (None if sent.get(name) is None else str(sent[name]) for name in names)
    return BackendError(
        f"model {model!r} failed with status {status}: {text}{_advice(status)}",
        model=model,
        status_code=status,
        retryable=is_retryable_status(status),
        provider=getattr(error, "llm_provider", None) or None,
        code=code,
        error_type=kind,
        param=param,
        retry_after=_retry_after(_response_headers(error)),
    )


def _status(error: Exception, text: str) -> int:
    claimed = getattr(error, "status_code", None)
    status = int(claimed) if isinstance(claimed, (int, str)) and str(claimed).isdigit() else 0
    if _response_headers(error) and 400 <= status <= 599:
        return status
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return 504
    if "missing credentials" in text.lower() or "api_key client option must be set" in text.lower():
        return 401
    return status if 400 <= status < 500 else 502


def _response_headers(error: Exception) -> Mapping[str, str]:
    headers = getattr(error, "litellm_response_headers", None)
    if not headers:
        headers = getattr(getattr(error, "response", None), "headers", None)
    return headers or {}


def _advice(status: int) -> str:
    if status == 401:
        return (
            ". Set the provider's key (an environment variable such as OPENAI_API_KEY, or api_key in the model's "
            "settings), or check that it is valid"
        )
    if status == 404:
        return ". Check the model's name and its api_base"
    return ""


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    while (
        shorter := _CLASS_PREFIX.sub("", text, count=1)
    ) != text:  # "litellm.APIError: APIError: OpenAIException - …"
        text = shorter
    return text.splitlines()[0][:500].rstrip(".") if text else type(error).__name__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:  # absent, or a date, which no provider here sends
        return None
