"""The core's errors as LangChain's: each is both, so that code which catches either goes on working."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core import exceptions

from routellm_core.errors import BackendError, UnfittingRequestError
from routellm_core.providers.errors import backend_error, is_retryable, status_of

__all__ = ["as_langchain", "langchain_errors", "mark_unreadable", "translated"]


def _both(name: str, own: type[Exception] = BackendError) -> type[Exception]:
    """Return a class that is ours and LangChain's; ours alone where LangChain is older than its own."""
    theirs = getattr(exceptions, name, None)
    bases = (own,) if theirs is None else (own, theirs)
    made = type(f"{own.__name__}As{name}", bases, {"__module__": __name__, "__doc__": theirs and theirs.__doc__})
    globals()[made.__name__] = made  # where pickle looks for it
    return made


_AUTHENTICATION = _both("ModelAuthenticationError")
_PERMISSION = _both("ModelPermissionDeniedError")
_INVALID = _both("ModelInvalidRequestError")
_NOT_FOUND = _both("ModelNotFoundError")
_RATE_LIMIT = _both("ModelRateLimitError")
_API = _both("ModelAPIError")
_CONNECTION = _both("ModelConnectionError")
_TIMEOUT = _both("ModelTimeoutError")
_OVERFLOW = _both("ContextOverflowError")
_UNFITTING_OVERFLOW = _both("ContextOverflowError", UnfittingRequestError)

_BY_STATUS = {401: _AUTHENTICATION, 403: _PERMISSION, 404: _NOT_FOUND, 429: _RATE_LIMIT}
# What the providers' packages raise, as mistakes in the program, where an answer is a web page or holds nothing.
_UNREADABLE = re.compile(r"Unexpected response type|null value for .?choices|missing .?choices|No generation")
_CHAT_MODELS = "langchain_core.language_models.chat_models"  # which takes the first answer where there is none
_OVERFLOW_WORDS = ("context", "too long", "too many tokens", "max_model_len", "string_above_max_length")


def as_langchain(error: Exception) -> Exception:
    """Return an error of the core as one that is LangChain's too; any other as it is."""
    if isinstance(error, getattr(exceptions, "ModelError", exceptions.LangChainException)):
        return error
    if isinstance(error, UnfittingRequestError):
        return _copied(error, _UNFITTING_OVERFLOW) if error.code == "context_length_exceeded" else error
    if not isinstance(error, BackendError):
        return error
    return _copied(error, _kind(error))


def _kind(error: BackendError) -> type[Exception]:
    text = f"{error.code} {error}".lower()
    if error.status_code == 413 or (error.fits_elsewhere and any(word in text for word in _OVERFLOW_WORDS)):
        return _OVERFLOW
    if error.is_timeout or error.status_code == 408:
        return _TIMEOUT
    if "connection" in text and error.status_code == 502:
        return _CONNECTION
    if error.status_code in _BY_STATUS:
        return _BY_STATUS[error.status_code]
    return _API if error.retryable else _INVALID


def _copied(error: Exception, kind: type[Exception]) -> Exception:
    made = kind.__new__(kind, *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.__cause__, made.__traceback__ = error.__cause__, error.__traceback__
    made.__suppress_context__ = error.__suppress_context__
    return made


def translated(error: Exception, model: str, secrets: Any = ()) -> Exception:
    """Return a provider's error, of whichever SDK, as the core's and LangChain's; a mistake in the program as it is."""
    mark_unreadable(error)
    if isinstance(error, BackendError) or not (status_of(error) or is_retryable(error)):
        return as_langchain(error)
    made = as_langchain(backend_error(error, model=model, secrets=secrets))
    made.__cause__ = error
    return made


def mark_unreadable(error: Exception) -> Exception:
    """Note on an error that it comes from an answer that nobody can read, as 502 says it; return it."""
    is_json = isinstance(error, json.JSONDecodeError)
    is_told = isinstance(error, (TypeError, ValueError)) and _UNREADABLE.search(str(error))
    if is_json or is_told or (isinstance(error, IndexError) and _origin(error) == _CHAT_MODELS):
        error.status_code = 502  # type: ignore[attr-defined]
    return error


def _origin(error: Exception) -> str:
    """Return the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))


@contextmanager
def langchain_errors() -> Iterator[None]:
    """Raise what goes wrong within as LangChain's errors, where they are the core's."""
    try:
        yield
    except (BackendError, UnfittingRequestError) as error:
        made = as_langchain(error)
        if made is error:
            raise
        raise made from error.__cause__
