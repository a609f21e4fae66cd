"""From what a user gives to what is needed: models, router and policies, with the configuration filling the gaps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import ValidationError

from langchain_routellm.litellm_chat import LiteLLMChat
from langchain_routellm.questions import core_extract
from langchain_routellm.turns import TurnRouter
from routellm_core import ModelPair, ModelSelector, ModelSettings, RouteLLMConfig, Router, load_config, load_router
from routellm_core._options import validated
from routellm_core.decision import requested_threshold
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.stickiness import ConversationMemory
from routellm_core.types import Tier

__all__ = ["ROUTING_OPTIONS", "build_turn_router", "check_names", "described", "model_name_of", "resolved"]

ROUTING_OPTIONS = (
    "router",
    "threshold",
    "strong_share",
    "strong",
    "weak",
    "selector",
    "extract",
    "sticky",
    "memory",
    "no_prompt_tier",
    "on_scoring_error",
    "resilience",
)
"""The options that say how to route; the same for the chat model and for the middleware."""

_OF_THE_SELECTOR = ("router", "extract", "sticky", "memory", "no_prompt_tier", "on_scoring_error")


def check_names(options: Mapping[str, Any], allowed: Collection[str], subject: str) -> None:
    """Refuse unknown options, with the nearest one that exists.

    Raises:
        ConfigError: an option that is not allowed.
    """
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"{subject} has no option {option!r}; its options are {', '.join(sorted(allowed))}."
                f"{did_you_mean(option, allowed)}"
            )


def described(error: ValidationError) -> str:
    """Say what pydantic found wrong, without the values."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {type(fault['input']).__name__}"
        for fault in error.errors(include_url=False)
    )


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace names by what they name, and fill what is missing from the configuration.

    What is resolved already stays as it is, so that building again from the result loads nothing twice and shares
    the router and the conversations' memory (``configurable_fields`` builds again for each call).

    Raises:
        ConfigError: an option of a wrong type, or two that contradict each other.
        UnknownRouterError: a router name that is not registered.
        InvalidThresholdError: a threshold or share outside its range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    requested_threshold(given.get("threshold"), given.get("strong_share"))
    config = load_config()
    selector = given.get("selector")
    result: dict[str, Any] = {**given, "resilience": given.get("resilience") or config.fallback.policy()}
    if selector is not None:
        _check_selector(selector, given)
        defaults = {"strong": selector.pair.strong, "weak": selector.pair.weak}
    else:
        result["router"] = _router(given.get("router", config.router), config)
        for name in ("no_prompt_tier", "on_scoring_error"):
            result.setdefault(name, getattr(config, name))
        result.setdefault("sticky", config.sticky or False)
        if result["sticky"]:
            result.setdefault("memory", ConversationMemory())
        defaults = {"strong": config.models.strong, "weak": config.models.weak}
    for tier in ("strong", "weak"):
        result[tier] = _model(tier, given.get(tier, defaults[tier]), result)
    return result


def build_turn_router(options: Mapping[str, Any]) -> TurnRouter:
    """Build the router of turns from :func:`resolved` options.

    Raises:
        ConfigError: an option outside its allowed values.
    """
    pair = ModelPair(strong=model_name_of(options["strong"]), weak=model_name_of(options["weak"]))
    threshold = requested_threshold(options.get("threshold"), options.get("strong_share"))
    if (selector := options.get("selector")) is not None:
        return TurnRouter(selector, pair, threshold, options["resilience"].fallback)
    chosen: dict[str, Any] = {
        "threshold": load_config().threshold if threshold is None else threshold,
        "no_prompt_tier": options["no_prompt_tier"],
        "on_scoring_error": options["on_scoring_error"],
        "sticky": options["sticky"] or None,
        "memory": options.get("memory"),
    }
    if extract := options.get("extract"):
        if not callable(extract):
            raise ConfigError(f"extract must be a function from messages to a text, got {type(extract).__name__}")
        chosen["extract"] = core_extract(extract)
    selector = ModelSelector(options["router"], pair, **chosen)
    return TurnRouter(selector, pair, None, options["resilience"].fallback)


def model_name_of(model: BaseChatModel) -> str:
    """Return the name that a model reports to tracing, or its class's name."""
    parameters = model._get_ls_params()  # what LangChain itself reads a model's name from
    return str(parameters.get("ls_model_name") or type(model).__name__)


def _check_selector(selector: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(selector, ModelSelector):
        raise ConfigError(f"selector must be a routellm_core.ModelSelector, got {type(selector).__name__}")
    if extra := [name for name in _OF_THE_SELECTOR if name in given]:
        raise ConfigError(f"selector= brings its own {', '.join(extra)}; give them when building the selector")


def _router(router: Any, config: RouteLLMConfig) -> Router:
    if isinstance(router, str):
        return load_router(router, config.router_options(router))
    if isinstance(router, Router):
        return router
    raise ConfigError(f"router must be a router's name or a routellm_core.Router, got {type(router).__name__}")


def _model(tier: Tier, spec: Any, options: Mapping[str, Any]) -> BaseChatModel:
    if isinstance(spec, BaseChatModel):
        _check_settings(tier, spec, options)
        return spec
    if isinstance(spec, Mapping):
        spec = validated(ModelSettings, dict(spec), subject=tier)
    if isinstance(spec, str) and spec.strip():
        return LiteLLMChat(model=spec, resilience=options["resilience"])
    if isinstance(spec, ModelSettings):
        return LiteLLMChat.from_settings(spec, options["resilience"])
    got = "an empty name" if isinstance(spec, str) else type(spec).__name__
    raise ConfigError(
        f"{tier} must be a litellm model name such as 'openai/gpt-5.4', a LangChain chat model, or "
        f"routellm_core.ModelSettings, got {got}. Bind tools, retries and configuration to the RouteLLMChat instead "
        "of to one of its models"
    )


def _check_settings(tier: Tier, model: BaseChatModel, options: Mapping[str, Any]) -> None:
    for name in ("temperature", "max_tokens", "streaming"):
        if name in options and name not in type(model).model_fields:
            raise ConfigError(f"{tier}={type(model).__name__} has no setting {name!r}; set its own equivalent on it")
