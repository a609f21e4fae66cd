"""The one door to litellm: imported on first use, and told what of a model's settings it must know."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from routellm_core.errors import BrokenPackageError
from routellm_core.providers.endpoints import secrets_of
from routellm_core.providers.errors import backend_error
from routellm_core.providers.redaction import safe_cause
from routellm_core.providers.settings import ModelSettings

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


_OPENAI_PROTOCOL = frozenset({"openai", "azure", "hosted_vllm"})
_NOT_IN_THE_BODY = frozenset(
    {"messages", "extra_body", "extra_headers", "extra_query", "api_base", "api_key", "timeout", "drop_params"}
)
_WATCHERS = ("success_callback", "failure_callback", "input_callback")
_SET_BY_PROGRAMS = (
    *_WATCHERS, *(f"_async_{name}" for name in _WATCHERS), "callbacks", "cache", "drop_params", "api_base", "api_key",
    "openai_key",
)  # fmt: skip


def is_wanted_by_the_program() -> bool:
    """Return whether the program set something in litellm that calls must then go through: callbacks, cache, a key."""
    litellm = sys.modules.get("litellm")
    return litellm is not None and any(getattr(litellm, name, None) for name in _SET_BY_PROGRAMS)


@contextmanager
def translated_errors(model: ModelSettings) -> Iterator[None]:
    """Raise whatever a call of ``model`` raises as a :class:`~routellm_core.errors.BackendError`."""
    try:
        yield
    except Exception as error:
        secrets = secrets_of(model)
        raise backend_error(error, model=model.model, secrets=secrets) from safe_cause(error, secrets)


def litellm_arguments(model: ModelSettings, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a litellm call."""
    is_streamed = bool(parameters.get("stream"))
    settings = {
        "api_base": model.api_base,
        "api_key": model.api_key.get_secret_value() if model.api_key else None,
        "timeout": max(model.opening_seconds, model.silent_seconds) if is_streamed else model.timeout,
        "drop_params": True if model.drop_params is True else None,
        **model.extra,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    if _takes_everything(model, {**given, **parameters}):
        # litellm knows which parameters OpenAI's own models take and drops or refuses others; an OpenAI-compatible
        # server may serve any model under any name, so what the caller gave is passed on as it is.
        given["allowed_openai_params"] = [name for name in parameters if name not in _NOT_IN_THE_BODY]
    # One mechanism for retries: resilience. litellm's own and the SDK's would multiply with it.
    return {**given, **parameters, "model": model.model, "num_retries": 0, "max_retries": 0}


def _takes_everything(model: ModelSettings, given: Mapping[str, Any]) -> bool:
    """Return whether nobody said which parameters this OpenAI-compatible model takes."""
    is_openai = model.model.partition("/")[0] in _OPENAI_PROTOCOL or "/" not in model.model
    is_told = given.get("drop_params") or given.get("allowed_openai_params") is not None
    return is_openai and not is_told and not getattr(sys.modules.get("litellm"), "drop_params", False)
