"""From what a user gives to what is needed: models, router and policies, with the configuration filling the gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.llms.llm import LLM
from llama_index.llms.routellm.children import model_name_of
from llama_index.llms.routellm.loading import load_model
from llama_index.llms.routellm.turns import SettledQuestions, TurnRouter
from pydantic import ValidationError

from routellm_core import ModelPair, ModelSettings, RouteLLMConfig, load_config
from routellm_core._options import build_from_options, validated
from routellm_core.adapters import build_selector, check_shared_selector, resolve_router
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.decision import requested_threshold
from routellm_core.errors import ConfigError
from routellm_core.memory import ConversationMemory
from routellm_core.types import Tier

__all__ = ["build_turn_router", "invalid", "resolved"]

_OF_THE_SELECTOR = ("router", "calibration", "sticky", "memory", "no_prompt_tier", "on_scoring_error")
_CLIENT_OPTIONS = ("api_base", "api_key", "timeout", "max_retries", "context_window")


def invalid(error: ValidationError, subject: str) -> ConfigError:
    """Return pydantic's refusal as this library's error, without the values, one of which may be a key."""
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False))
    return ConfigError(f"{subject} was given values that it cannot use: {'; '.join(faults)}")


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace names by what they name, and fill what is missing from the configuration.

    What is resolved already stays as it is, so that building again from the result loads nothing twice.

    Raises:
        ConfigError: an option of a wrong type, or two that contradict each other.
        UnknownRouterError: a router name that is not registered.
        InvalidThresholdError: a threshold or share outside its range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    requested_threshold(given.get("threshold"), given.get("strong_share"))
    config = load_config()
    selector = given.get("selector")
    result: dict[str, Any] = {**given, "resilience": _resilience(given.get("resilience"), config)}
    if selector is not None:
        check_shared_selector(selector, given, own_options=_OF_THE_SELECTOR)
        defaults: dict[Tier, Any] = {"strong": selector.pair.strong, "weak": selector.pair.weak}
    else:
        result["router"] = resolve_router(given.get("router", config.router), config)
        for name in ("no_prompt_tier", "on_scoring_error"):
            result.setdefault(name, getattr(config, name))
        result.setdefault("sticky", config.sticky if "sticky" in config.model_fields_set and config.sticky else False)
        if result["sticky"]:
            result.setdefault("memory", ConversationMemory())
        defaults = {"strong": config.models.strong, "weak": config.models.weak}
    if (extract := given.get("extract")) is not None and not callable(extract):
        raise ConfigError(f"extract={extract!r} must be a function from messages to the text to route on")
    for tier, default in defaults.items():
        result[tier] = _model(tier, given.get(tier, default), result)
    return result


def build_turn_router(options: Mapping[str, Any]) -> TurnRouter:
    """Build the router of turns from :func:`resolved` options.

    Raises:
        ConfigError: an option outside its allowed values.
    """
    pair = ModelPair(strong=model_name_of(options["strong"]), weak=model_name_of(options["weak"]))
    extract = options.get("extract")
    if (selector := options.get("selector")) is not None:
        threshold = requested_threshold(options.get("threshold"), options.get("strong_share"))
        return TurnRouter(selector, pair, threshold=threshold, extract=extract, is_sticky=True)
    built = build_selector(
        options["router"],
        pair,
        load_config(),
        **{name: options.get(name) for name in ("threshold", "strong_share", "calibration", "memory")},
        no_prompt_tier=options["no_prompt_tier"],
        on_scoring_error=options["on_scoring_error"],
        sticky=options["sticky"] or None,
    )
    # A sticky conversation may go up at any time, which a decision kept from a moment ago would undo.
    settled = None if options["sticky"] else SettledQuestions(options.get("settle_seconds", 60.0))
    return TurnRouter(built, pair, extract=extract, settled=settled, is_sticky=bool(options["sticky"]))


def _resilience(policy: Any, config: RouteLLMConfig) -> ResiliencePolicy:
    if policy is None:
        return config.fallback.policy()
    if isinstance(policy, Mapping):
        return build_from_options(ResiliencePolicy, policy, subject="resilience")
    if isinstance(policy, ResiliencePolicy):
        return policy
    raise ConfigError(f"resilience must be a routellm_core ResiliencePolicy, got {type(policy).__name__}")


def _model(tier: Tier, spec: Any, options: Mapping[str, Any]) -> LLM:
    if isinstance(spec, Mapping) and "class_name" in spec:
        spec = load_model(tier, spec)
    if isinstance(spec, LLM):
        return spec
    if isinstance(spec, Mapping):
        spec = validated(ModelSettings, dict(spec), subject=tier)
    if isinstance(spec, str) and spec.strip():
        spec = ModelSettings(model=spec)
    if isinstance(spec, ModelSettings):
        return _from_settings(spec, options)
    got = "an empty name" if isinstance(spec, str) else type(spec).__name__
    raise ConfigError(
        f"{tier} must be a litellm model name such as 'openai/gpt-5.4', a LlamaIndex LLM, or "
        f"routellm_core.ModelSettings, got {got}"
    )


def _from_settings(settings: ModelSettings, options: Mapping[str, Any]) -> LLM:
    from llama_index.llms.routellm.litellm_model import ResilientLiteLLM

    own = {
        "api_base": settings.api_base,
        "api_key": settings.api_key,
        "timeout": settings.timeout if "timeout" in settings.model_fields_set else None,
    }
    shared = {name: options.get(name) for name in _CLIENT_OPTIONS}
    merged = {**shared, **{name: value for name, value in own.items() if value is not None}}
    try:
        return ResilientLiteLLM(
            model=settings.model,
            additional_kwargs={**(options.get("model_kwargs") or {}), **settings.extra},
            resilience=options["resilience"],
            **{name: value for name, value in merged.items() if value is not None},
        )
    except ValidationError as error:
        raise invalid(error, repr(settings.model)) from None
