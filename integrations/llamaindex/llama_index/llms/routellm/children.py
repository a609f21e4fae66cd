"""The two models as a router calls them: with its callbacks, and with the settings that it was given itself."""

from __future__ import annotations

import copy
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.types import PydanticProgramMode

from routellm_core.errors import ConfigError
from routellm_core.types import ModelPair

__all__ = ["common_metadata", "configured", "function_calling", "model_name_of"]

CALL_SETTINGS = ("temperature", "max_tokens")
_PROMPT_SETTINGS = ("system_prompt", "query_wrapper_prompt", "output_parser")


def configured(model: LLM, router: LLM) -> LLM:
    """Return ``model``, or a copy of it with the router's callbacks and what was set on the router.

    LlamaIndex writes ``Settings.callback_manager`` into the LLM of ``Settings``, which is the router; the handlers are
    meant for the models behind it. The model itself is never changed, since it may serve elsewhere too.
    """
    updates = _settings(model, router)
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


def model_name_of(model: LLM) -> str:
    """Return the name that a model reports, or its class's name."""
    name = model.metadata.model_name
    return name if name and name != "unknown" else model.class_name()


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


def check_settings(pair: ModelPair, strong: LLM, weak: LLM, settings: dict[str, Any]) -> None:
    """Refuse a setting that one of the models does not have.

    Raises:
        ConfigError: names the model and the setting.
    """
    for name in CALL_SETTINGS:
        for label, model in ((pair.strong, strong), (pair.weak, weak)):
            if settings.get(name) is not None and name not in type(model).model_fields:
                raise ConfigError(
                    f"{label!r} ({type(model).__name__}) has no setting {name!r}; set its own equivalent on it"
                )


def _settings(model: LLM, router: Any) -> dict[str, Any]:
    names = (*CALL_SETTINGS, *_PROMPT_SETTINGS)
    updates = {name: value for name in names if (value := getattr(router, name)) is not None}
    if router.pydantic_program_mode != PydanticProgramMode.DEFAULT:
        updates["pydantic_program_mode"] = router.pydantic_program_mode
    for name in ("messages_to_prompt", "completion_to_prompt"):
        if name in router.given_prompt_functions:
            updates[name] = getattr(router, name)
    return {name: value for name, value in updates.items() if getattr(model, name) != value}
