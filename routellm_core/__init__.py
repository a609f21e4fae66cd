"""Route each prompt to the strong or the weak LLM. Everything here is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routellm_core.backends import ChatBackend, ModelSettings, ResiliencePolicy
    from routellm_core.config import RouteLLMConfig, build_controller, load_config
    from routellm_core.controller import Controller
    from routellm_core.decision import decide
    from routellm_core.errors import (
        BackendError,
        CheckpointError,
        ConfigError,
        EmbeddingError,
        InvalidThresholdError,
        MissingExtraError,
        RouteLLMError,
        RoutingError,
        ScoringError,
        UnfittingRequestError,
        UnknownRouterError,
        UnsupportedPromptError,
    )
    from routellm_core.prompts import routing_prompt
    from routellm_core.routers import Router, available_routers, load_router, register_router
    from routellm_core.selector import ModelSelector
    from routellm_core.types import ModelPair, RoutingDecision

__version__ = "0.1.0"

_NAMES = {
    "backends": "ChatBackend ModelSettings ResiliencePolicy",
    "config": "RouteLLMConfig build_controller load_config",
    "controller": "Controller",
    "decision": "decide",
    "errors": """
        BackendError CheckpointError ConfigError EmbeddingError InvalidThresholdError MissingExtraError
        RouteLLMError RoutingError ScoringError UnfittingRequestError UnknownRouterError UnsupportedPromptError
    """,
    "prompts": "routing_prompt",
    "routers": "Router available_routers load_router register_router",
    "selector": "ModelSelector",
    "types": "ModelPair RoutingDecision",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "BackendError",
    "ChatBackend",
    "CheckpointError",
    "ConfigError",
    "Controller",
    "EmbeddingError",
    "InvalidThresholdError",
    "MissingExtraError",
    "ModelPair",
    "ModelSelector",
    "ModelSettings",
    "ResiliencePolicy",
    "RouteLLMConfig",
    "RouteLLMError",
    "Router",
    "RoutingDecision",
    "RoutingError",
    "ScoringError",
    "UnfittingRequestError",
    "UnknownRouterError",
    "UnsupportedPromptError",
    "available_routers",
    "build_controller",
    "decide",
    "load_config",
    "load_router",
    "register_router",
    "routing_prompt",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
