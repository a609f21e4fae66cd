"""From what a user gives to what is needed: models, router and policies, with the configuration filling the gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import ValidationError

from langchain_routellm.litellm_chat import LiteLLMChat
from langchain_routellm.questions import core_extract
from langchain_routellm.turns import TurnRouter
from routellm_core import ModelPair, ModelSettings, load_config
from routellm_core._options import validated
from routellm_core.adapters import build_selector, check_shared_selector, resolve_router
from routellm_core.decision import requested_threshold
from routellm_core.errors import ConfigError
from routellm_core.memory import ConversationMemory
from routellm_core.types import Tier

__all__ = ["ROUTING_OPTIONS", "build_turn_router", "described", "model_name_of", "resolved"]

ROUTING_OPTIONS = (
    "router",
    "threshold",
    "strong_share",
    "calibration",
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

_OF_THE_SELECTOR = ("router", "calibration", "extract", "sticky", "memory", "no_prompt_tier", "on_scoring_error")


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
        check_shared_selector(selector, given, own_options=_OF_THE_SELECTOR)
        defaults = {"strong": selector.pair.strong, "weak": selector.pair.weak}
    else:
        result["router"] = resolve_router(given.get("router", config.router), config)
        for name in ("no_prompt_tier", "on_scoring_error"):
            result.setdefault(name, getattr(config, name))
        result.setdefault("sticky", config.sticky if "sticky" in config.model_fields_set and config.sticky else False)
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
    if (selector := options.get("selector")) is not None:
        threshold = requested_threshold(options.get("threshold"), options.get("strong_share"))
        return TurnRouter(selector, pair, threshold, options["resilience"].fallback)
    extract = options.get("extract")
    if extract is not None and not callable(extract):
        raise ConfigError(f"extract must be a function from messages to a text, got {type(extract).__name__}")
    selector = build_selector(
        options["router"],
        pair,
        load_config(),
        **{name: options.get(name) for name in ("threshold", "strong_share", "calibration", "memory")},
        extract=None if extract is None else core_extract(extract),
        no_prompt_tier=options["no_prompt_tier"],
        on_scoring_error=options["on_scoring_error"],
        sticky=options["sticky"] or None,
    )
    return TurnRouter(selector, pair, None, options["resilience"].fallback)


def model_name_of(model: BaseChatModel) -> str:
    """Return the name that a model reports to tracing, or its class's name."""
    parameters = model._get_ls_params()  # what LangChain itself reads a model's name from
    return str(parameters.get("ls_model_name") or type(model).__name__)


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
