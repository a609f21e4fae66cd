"""The two models of a router: built from a name, given or saved; called with its callbacks and its own settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.callbacks import CallbackManager
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.loading import RECOGNIZED_LLMS
from llama_index.core.types import PydanticProgramMode
from pydantic import ValidationError

from routellm_core import ModelSettings
from routellm_core._options import validated
from routellm_core.errors import ConfigError
from routellm_core.types import Tier

__all__ = [
    "CLIENT_OPTIONS",
    "build_model",
    "check_settings",
    "common_metadata",
    "configured",
    "copied_model",
    "dump_model",
    "function_calling",
    "invalid",
    "settings_of",
    "without_secrets",
]

CLIENT_OPTIONS = frozenset(
    {"api_base", "api_key", "timeout", "max_retries", "context_window", "model_kwargs", "resilience"}
)
"""Options of a router that reach the models which it builds from a name."""

_CALL_SETTINGS = ("temperature", "max_tokens")
_PROMPT_SETTINGS = ("system_prompt", "query_wrapper_prompt", "output_parser")
_SECRETS = frozenset(
    {"api_key", "authorization", "azure_ad_token", "aws_secret_access_key", "aws_session_token", "auth_token"}
)


# --- built ------------------------------------------------------------------------------------------------------------


def build_model(tier: Tier, spec: Any, options: Mapping[str, Any]) -> LLM:
    """Return the model for ``strong=`` or ``weak=``.

    Args:
        tier: which of them, for errors.
        spec: a name, settings, an LLM, or what :func:`dump_model` wrote.
        options: what the router was given beside.

    Raises:
        ConfigError: none of these, or values that the model's class refuses.
    """
    if isinstance(spec, Mapping) and "class_name" in spec:
        spec = _load_model(tier, spec)
    if isinstance(spec, LLM):
        return spec
    if isinstance(spec, Mapping):
        spec = validated(ModelSettings, dict(spec), subject=tier)
    if isinstance(spec, str) and spec.strip():
        spec = ModelSettings(model=spec)
    if not isinstance(spec, ModelSettings):
        got = "an empty name" if isinstance(spec, str) else type(spec).__name__
        raise ConfigError(
            f"{tier} must be a litellm model name such as 'openai/gpt-5.4', a LlamaIndex LLM, or "
            f"routellm_core.ModelSettings, got {got}"
        )
    from llama_index.llms.routellm.litellm_model import ResilientLiteLLM  # importing litellm takes seconds

    given = {name: options[name] for name in CLIENT_OPTIONS if options.get(name) is not None}
    try:
        return ResilientLiteLLM.from_settings(spec, **given)
    except ValidationError as error:
        raise invalid(error, repr(spec.model)) from None


def invalid(error: ValidationError, subject: str) -> ConfigError:
    """Return pydantic's refusal as this library's error, without the values, one of which may be a key."""
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False))
    return ConfigError(f"{subject} was given values that it cannot use: {'; '.join(faults)}")


def settings_of(_spec: Any, model: LLM) -> ModelSettings:
    """Return what is known of a model: its name, its window, its time limit."""
    known = getattr(model, "known_settings", None)  # of one that was built from a name
    if known is not None:
        return known  # type: ignore[no-any-return]
    metadata = model.metadata
    name = metadata.model_name
    about: dict[str, Any] = {"model": name if name and name != "unknown" else model.class_name()}
    if metadata.context_window != DEFAULT_CONTEXT_WINDOW:  # what a class reports that does not know it
        about["context_window"] = metadata.context_window
    limit = getattr(model, "timeout", None) or getattr(model, "request_timeout", None)
    if isinstance(limit, (int, float)) and limit > 0:
        about["timeout"] = limit
    return ModelSettings(**about)


def function_calling(model: LLM, name: str) -> FunctionCallingLLM:
    """Return ``model`` as one that takes tools.

    Raises:
        ConfigError: its class has no tool calling.
    """
    if not isinstance(model, FunctionCallingLLM):
        raise ConfigError(
            f"the model {name!r} ({type(model).__name__}) has no tool calling, so tools cannot be routed; use a "
            "FunctionCallingLLM for both models, or a ReActAgent, which needs none"
        )
    return model


def common_metadata(strong: LLMMetadata, weak: LLMMetadata, name: str) -> LLMMetadata:
    """Return what holds for both models: the smaller window with room for the longer answer, and what both can do."""
    roles = {strong.system_role, weak.system_role}
    return LLMMetadata(
        context_window=min(strong.context_window, weak.context_window),
        num_output=max(strong.num_output, weak.num_output),
        is_chat_model=strong.is_chat_model and weak.is_chat_model,
        is_function_calling_model=strong.is_function_calling_model and weak.is_function_calling_model,
        model_name=name,
        # Where the two differ, one of them takes no system messages, and both take a user's.
        system_role=roles.pop() if len(roles) == 1 else MessageRole.USER,
    )


def copied_model(model: LLM) -> LLM:
    """Return a copy that can be changed apart from the model, whose connections and handlers it shares."""
    copied = copy.copy(model)
    copied.__dict__.update({k: copy.copy(v) for k, v in copied.__dict__.items() if isinstance(v, (dict, list))})
    return copied


# --- called -----------------------------------------------------------------------------------------------------------


def check_settings(models: Mapping[Tier, LLM], settings: Mapping[str, Any]) -> None:
    """Refuse a setting of the router's that one of the models does not have.

    Raises:
        ConfigError: names the model and the setting.
    """
    for name in _CALL_SETTINGS:
        for model in models.values():
            if settings.get(name) is not None and name not in type(model).model_fields:
                raise ConfigError(
                    f"{settings_of(None, model).model!r} ({type(model).__name__}) has no setting {name!r}; set its own "
                    "equivalent on it"
                )


def configured(model: LLM, router: Any) -> LLM:
    """Return ``model``, or a copy of it with the router's callbacks and what was set on the router.

    LlamaIndex writes ``Settings.callback_manager`` into the LLM of ``Settings``, which is the router; the handlers are
    meant for the models behind it. The model itself is never changed, since it may serve elsewhere too.
    """
    updates = _updates(model, router)
    own = model.callback_manager.handlers
    missing = [handler for handler in router.callback_manager.handlers if handler not in own]
    if missing:
        updates["callback_manager"] = CallbackManager([*own, *missing]) if own else router.callback_manager
    if not updates:
        return model
    view = copy.copy(model)
    # A client that is made on first use must stay with the model, or each call would open its own connections.
    object.__setattr__(view, "__pydantic_private__", model.__pydantic_private__)
    for name, value in updates.items():
        setattr(view, name, value)
    return view


def _updates(model: LLM, router: Any) -> dict[str, Any]:
    names = (*_CALL_SETTINGS, *_PROMPT_SETTINGS)
    updates = {name: value for name in names if (value := getattr(router, name)) is not None}
    if router.pydantic_program_mode != PydanticProgramMode.DEFAULT:
        updates["pydantic_program_mode"] = router.pydantic_program_mode
    for name in router.given_prompt_functions:
        updates[name] = getattr(router, name)
    return {name: value for name, value in updates.items() if getattr(model, name) != value}


# --- saved ------------------------------------------------------------------------------------------------------------


def dump_model(model: LLM) -> dict[str, Any]:
    """Return a model as plain values, without keys: those come from the environment where it is built again."""
    record = model.to_dict()
    own = {name: value for name, value in record.items() if name in type(model).model_fields or name == "class_name"}
    return without_secrets(own)  # type: ignore[no-any-return]


def _load_model(tier: Tier, record: Mapping[str, Any]) -> LLM:
    """Build a model from what :func:`dump_model` wrote.

    Only classes that are known by name are built: those of this package, ``LiteLLM``, and those that LlamaIndex knows.
    """
    name = str(record["class_name"])
    found = _class_of(name)
    if found is None:
        raise ConfigError(
            f"{tier}: the LLM class {name!r} cannot be built from data; give the model itself, as in "
            f"RouteLLM.from_dict(data, {tier}=MyLLM(...))"
        )
    try:
        return found.from_dict(dict(record))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{tier}: the LLM class {name!r} refused its saved values: {error}") from error


def _class_of(name: str) -> type[LLM] | None:
    from llama_index.llms.routellm.base import RouteLLM

    if name == RouteLLM.class_name():
        return RouteLLM
    if name in ("resilient_litellm_llm", "litellm_llm"):  # importing litellm takes seconds
        from llama_index.llms.litellm import LiteLLM
        from llama_index.llms.routellm.litellm_model import ResilientLiteLLM

        return ResilientLiteLLM if name == ResilientLiteLLM.class_name() else LiteLLM
    return RECOGNIZED_LLMS.get(name)


def without_secrets(value: Any) -> Any:
    """Return plain values without the entries that hold keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if str(key).lower() not in _SECRETS}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
