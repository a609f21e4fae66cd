"""A request as one model takes it: parameters that it lacks left out, others renamed, foreign fields stripped.

This is done before the call, whichever way the call goes: relayed bytes, direct calls, litellm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from routellm_core.providers.settings import ModelSettings

# OpenAI's reasoning models refuse max_tokens; everybody else's servers take it.
_OPENAI_REASONING = re.compile(r"(?:(?:openai|azure)/)?(?:o\d|gpt-5)")
_REASONING_NAMES = {"max_tokens": "max_completion_tokens"}


def fitted(model: ModelSettings, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a request as ``model`` takes them; the same object where nothing changes.

    Args:
        model: with its ``drop_params``, ``rename_params`` and ``drop_message_fields``.
        operation: the path of OpenAI's operation, such as ``chat/completions``.
        parameters: of the request, which is not changed.
    """
    renamed = {**_known_names(model, operation), **model.rename_params}
    dropped = dropped_names(model)
    if not (renamed.keys() & parameters.keys() or dropped & parameters.keys() or model.drop_message_fields):
        return parameters
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        new = renamed.get(name, name)
        if name not in dropped and (new == name or new not in parameters):
            found[new] = value
    if model.drop_message_fields:
        for name in ("messages", "input"):
            if isinstance(found.get(name), list):
                found[name] = [_without(message, model.drop_message_fields) for message in found[name]]
    return found


def dropped_names(model: ModelSettings) -> frozenset[str]:
    """Return the parameters that calls of ``model`` leave out, as far as they are named."""
    named = model.drop_params if isinstance(model.drop_params, tuple) else ()
    return frozenset({*named, *(model.extra.get("additional_drop_params") or ())})


def _known_names(model: ModelSettings, operation: str) -> Mapping[str, str]:
    is_openai = model.api_base is None or model.model.startswith("azure/")
    if operation == "chat/completions" and is_openai and _OPENAI_REASONING.match(model.model):
        return _REASONING_NAMES
    return {}


def _without(message: Any, fields: tuple[str, ...]) -> Any:
    if not isinstance(message, Mapping) or not any(name in message for name in fields):
        return message
    return {name: value for name, value in message.items() if name not in fields}
