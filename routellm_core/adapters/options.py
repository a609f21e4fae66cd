"""From what a user gives to what is needed: models, router and policies, with the configuration filling the gaps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from routellm_core.adapters.turns import Routing
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.calibration import calibrations_by_router
from routellm_core.config import RouteLLMConfig, load_config
from routellm_core.decision import StrongShare, requested_threshold
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.prompts import Extract
from routellm_core.providers.settings import ModelSettings
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router
from routellm_core.selector import ModelSelector
from routellm_core.types import ModelPair, PairTier, Tier

__all__ = [
    "ROUTING_OPTIONS",
    "build_routing",
    "build_selector",
    "check_option_names",
    "check_shared_selector",
    "resolve_router",
]

M = TypeVar("M")


def check_option_names(options: Mapping[str, Any], allowed: Collection[str], *, subject: str) -> None:
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


def resolve_router(router: Any, config: RouteLLMConfig) -> Router:
    """Return a router as it is, or load it by name with its configured options.

    Raises:
        UnknownRouterError: no such name.
        ConfigError: neither a name nor a router.
    """
    if isinstance(router, str):
        return load_router(router, config.router_options(router))
    if isinstance(router, Router):
        return router
    raise ConfigError(f"router must be a router's name or a routellm_core.Router, got {type(router).__name__}")


def check_shared_selector(selector: Any, given: Mapping[str, Any], *, own_options: Collection[str]) -> None:
    """Refuse what is no selector, and options that a shared selector has already.

    Raises:
        ConfigError: either of them.
    """
    if not isinstance(selector, ModelSelector):
        raise ConfigError(f"selector must be a routellm_core.ModelSelector, got {type(selector).__name__}")
    if extra := [name for name in own_options if name in given]:
        raise ConfigError(f"selector= brings its own {', '.join(extra)}; give them when building the selector")


def build_selector(
    router: Router,
    pair: ModelPair,
    config: RouteLLMConfig,
    *,
    threshold: float | str | StrongShare | None = None,
    strong_share: float | None = None,
    calibration: Any = None,
    **policies: Any,
) -> ModelSelector:
    """Build a selector from an adapter's options; the configuration fills the gaps.

    Args:
        router: the router.
        pair: the names of the two models.
        config: the configuration.
        threshold: as for :class:`ModelSelector`; None takes the given calibration's, else the configured one.
        strong_share: the same as a share of strong calls.
        calibration: a calibration, its file, or several; None takes the configured ones.
        **policies: further options of :class:`ModelSelector`; those that are None are left to its defaults, ``sticky``
            aside, of which None is a value.

    Raises:
        RouteLLMError: whatever :class:`ModelSelector` raises.
    """
    requested = requested_threshold(threshold, strong_share)
    if requested is None and calibration is None:
        requested = requested_threshold(config.threshold, None)
    source = config.calibration if calibration is None else calibration
    return ModelSelector(
        router,
        pair,
        threshold=requested,
        calibration=calibrations_by_router(source, {router.name: router}).get(router.name),
        **{name: value for name, value in policies.items() if value is not None or name == "sticky"},
    )


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
"""The options that say how to route; the same for every adapter."""

_OF_THE_SELECTOR = ("router", "calibration", "extract", "sticky", "memory", "no_prompt_tier", "on_scoring_error")
_TIERS: tuple[PairTier, PairTier] = ("strong", "weak")


def build_routing(
    options: Mapping[str, Any],
    *,
    build_model: Callable[[PairTier, Any], M],
    settings_of: Callable[[Any, M], ModelSettings],
    core_extract: Callable[[Any], Extract] = lambda extract: extract,
    previous: Routing[M] | None = None,
) -> Routing[M]:
    """Build what an adapter routes with; the configuration fills the gaps.

    Args:
        options: of :data:`ROUTING_OPTIONS`; others are passed over, and None is the same as not given. ``sticky=False``
            switches off what is configured.
        build_model: turns ``strong=`` or ``weak=`` into the framework's model; a name, settings or a mapping come from
            the configuration too.
        settings_of: tells what is known of a model: its name above all; gets the option and the built model.
        core_extract: lets the core call an ``extract=`` that reads the framework's messages.
        previous: what was built from other options before; what did not change (a loaded router, conversations,
            models) is taken from it.

    Raises:
        ConfigError: an option of a wrong type or outside its allowed values, or two that contradict each other.
        UnknownRouterError: a router name that is not registered.
        InvalidThresholdError: a threshold or share outside its range.
    """
    given = {name: options[name] for name in ROUTING_OPTIONS if options.get(name) is not None}
    requested = requested_threshold(given.get("threshold"), given.get("strong_share"))
    _check_types(given)
    config = load_config()
    shared = given.get("selector")
    if shared is not None:
        check_shared_selector(shared, given, own_options=_OF_THE_SELECTOR)
        defaults = {tier: shared.pair.of(tier) for tier in _TIERS}
    else:
        defaults = {tier: getattr(config.models, tier) for tier in _TIERS}
    specs = {tier: given.get(tier, defaults[tier]) for tier in _TIERS}
    models: dict[Tier, M] = {}
    for tier in _TIERS:
        is_same = previous is not None and _is_same(previous.given, given, tier)
        models[tier] = previous.models[tier] if is_same else build_model(tier, specs[tier])  # type: ignore[union-attr]
    if _are_equal(specs["strong"], specs["weak"]):
        models["weak"] = models["strong"]  # nobody else to ask
    settings: dict[Tier, ModelSettings] = {tier: settings_of(specs[tier], models[tier]) for tier in _TIERS}
    pair = ModelPair(strong=settings["strong"].model, weak=settings["weak"].model)
    policy: ResiliencePolicy = given.get("resilience") or config.fallback.policy()
    has_same_models = previous is not None and all(models[tier] is previous.models[tier] for tier in _TIERS)
    keeps = has_same_models and previous.policy == policy  # type: ignore[union-attr]
    return Routing(
        selector=shared or _own_selector(given, config, pair, settings, core_extract, previous),
        pair=pair,
        models=models,
        settings=settings,
        policy=policy,
        cool_downs=previous.cool_downs if keeps else policy.cool_downs(),  # type: ignore[union-attr]
        threshold=requested if shared is not None else None,
        given=given,
    )


def _own_selector(
    given: Mapping[str, Any],
    config: RouteLLMConfig,
    pair: ModelPair,
    settings: Mapping[Tier, ModelSettings],
    core_extract: Callable[[Any], Extract],
    previous: Routing[Any] | None,
) -> ModelSelector:
    was = previous if previous is not None and "selector" not in previous.given else None
    keeps_router = was is not None and _is_same(was.given, given, "router")
    router = was.selector.router if keeps_router else resolve_router(given.get("router", config.router), config)  # type: ignore[union-attr]
    memory = given.get("memory")
    if memory is None:
        keeps_memory = was is not None and "memory" not in was.given
        memory = was.selector.memory if keeps_memory else config.memory()  # type: ignore[union-attr]
    extract = given.get("extract")
    return build_selector(
        router,
        pair,
        config,
        **{name: given.get(name) for name in ("threshold", "strong_share", "calibration")},
        memory=memory,
        extract=None if extract is None else core_extract(extract),
        no_prompt_tier=given.get("no_prompt_tier", config.no_prompt_tier),
        on_scoring_error=given.get("on_scoring_error", config.on_scoring_error),
        wrappers=config.wrappers,
        sticky=given.get("sticky", config.sticky) or None,
        sticky_release=config.sticky_release,
        models=settings,
    )


def _check_types(given: Mapping[str, Any]) -> None:
    extract, resilience = given.get("extract"), given.get("resilience")
    if extract is not None and not callable(extract):
        raise ConfigError(f"extract must be a function from messages to a text, got {type(extract).__name__}")
    if resilience is not None and not isinstance(resilience, ResiliencePolicy):
        raise ConfigError(f"resilience must be a ResiliencePolicy, got {type(resilience).__name__}")


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Return whether an option is the same: the same object, or an equal value of a kind that is compared by value."""
    return _are_equal(one.get(name), other.get(name))


def _are_equal(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, (str, ModelSettings)) and bool(one == other))
