"""What the framework adapters share: options completed from the configuration, and wishes of a single call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from routellm_core.calibration import calibrations_by_router
from routellm_core.config import RouteLLMConfig
from routellm_core.decision import StrongShare, requested_model, requested_threshold
from routellm_core.errors import ConfigError, UnknownRouterError, did_you_mean
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router
from routellm_core.selector import ModelSelector
from routellm_core.types import ModelPair

__all__ = ["build_selector", "check_option_names", "check_shared_selector", "resolve_router", "selection_options"]


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


def selection_options(
    model: Any, selector: ModelSelector, pair: ModelPair, *, threshold: float | StrongShare | None = None
) -> dict[str, Any]:
    """Turn the ``model=`` of a single call into options of :meth:`ModelSelector.select`.

    Args:
        model: None or ``"auto"``; ``"strong"``, ``"weak"`` or the name of one of the two models, which skips scoring;
            or ``"router-mf-0.3"``, which sets the threshold of this call.
        selector: the selector that will decide.
        pair: the names of the models that answer, which a shared selector may know under other names.
        threshold: the threshold of calls that wish for nothing, or None for the selector's.

    Raises:
        RoutingError: none of these.
        UnknownRouterError: the name of a router that the selector does not have.
    """
    wish = requested_model(model, pair)
    own = selector.router.name
    if wish.router not in (None, own):
        raise UnknownRouterError(f"model={model!r} asks for the router {wish.router!r}; this was built with {own!r}")
    if wish.force is not None:
        return {"force": wish.force}
    limit = threshold if wish.threshold is None else wish.threshold
    return {} if limit is None else {"threshold": limit}
