"""Router names and the classes behind them; a class's module is imported only when it is loaded.

Adding a router to the library is one file and one line in ``_BUILT_IN``. A third party registers its own with
:func:`register_router`, or ships it under the entry-point group ``routellm_core.routers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from routellm_core._options import build_from_options
from routellm_core.errors import ConfigError, UnknownRouterError, did_you_mean
from routellm_core.routers.base import Router

__all__ = ["available_routers", "build_router", "load_router", "register_router", "router_class"]

ENTRY_POINT_GROUP = "routellm_core.routers"

_BUILT_IN = {
    "random": "routellm_core.routers.random:RandomRouter",
    "mf": "routellm_core.routers.mf.router:MatrixFactorizationRouter",
    "sw_ranking": "routellm_core.routers.sw_ranking.router:SimilarityWeightedRouter",
    "bert": "routellm_core.routers.transformer.bert:BERTRouter",
    "causal_llm": "routellm_core.routers.transformer.causal_llm:CausalLLMRouter",
}
_registered: dict[str, str | type[Router]] = {}


@cache
def _entry_point_targets() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _targets() -> dict[str, str | type[Router]]:
    # The library's own names cannot be taken over by an installed package, only by an explicit call.
    return {**_entry_point_targets(), **_BUILT_IN, **_registered}


def available_routers() -> list[str]:
    """Return every router name that can be asked for, sorted."""
    return sorted(_targets())


def register_router(name: str, target: str | type[Router], *, replace: bool = False) -> None:
    """Make a router available under ``name`` everywhere: controller, command line, server, evaluation, calibration.

    Args:
        name: the name to ask for it by; letters, digits, ``_``, ``-`` and ``.``.
        target: the class, or ``"package.module:Class"`` to import it on first use.
        replace: allow ``name`` to be taken already.

    Raises:
        ConfigError: the name is taken or unusable, or the target is not a router class.
    """
    if not name or not all(character.isalnum() or character in "_-." for character in name):
        raise ConfigError(f"router name {name!r} must be letters, digits, '_', '-' and '.'")
    if not replace and name in _targets():
        raise ConfigError(f"a router named {name!r} exists already; pass replace=True to take its place")
    if isinstance(target, str):
        if target.count(":") != 1:
            raise ConfigError(f"router target {target!r} must be a class or a string 'package.module:Class'")
    elif not (isinstance(target, type) and issubclass(target, Router)):
        raise ConfigError(f"router target {target!r} is not a subclass of routellm_core.Router")
    _registered[name] = target


def router_class(name: str) -> type[Router]:
    """Return the class registered under ``name``, importing its module if need be.

    Raises:
        UnknownRouterError: no such name.
        MissingExtraError: its module needs a package that is not installed.
    """
    targets = _targets()
    if name not in targets:
        raise UnknownRouterError(
            f"unknown router {name!r}; available routers are {', '.join(sorted(targets))}."
            f"{did_you_mean(str(name), targets)}"
        )
    target = targets[name]
    if isinstance(target, type):
        return target
    module, _, attribute = target.partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except AttributeError as error:
        raise ConfigError(f"router {name!r} points to {target!r}, but that module has no {attribute!r}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Router)):
        raise ConfigError(f"router {name!r} points to {target!r}, which is not a subclass of routellm_core.Router")
    return loaded


def load_router(name: str, options: Mapping[str, Any] | None = None) -> Router:
    """Build a router from its configured options.

    Args:
        name: a name of :func:`available_routers`.
        options: keyword arguments of its class, as in the configuration file.

    Raises:
        UnknownRouterError: no such name.
        ConfigError: an option that its class does not have, with the nearest one it has, or a missing one.
        CheckpointError: its checkpoint cannot be loaded.
    """
    return build_router(router_class(name), name, options or {})


def build_router(kind: type[Router], name: str, options: Mapping[str, Any]) -> Router:
    """Build a router of class ``kind`` that goes by ``name``; what a pickled router calls where it arrives.

    Raises:
        ConfigError: as for :func:`load_router`.
    """
    router = build_from_options(kind, options, subject=f"router {name!r}")
    # What its decisions and scores are counted and cached under is the name that it was asked for by.
    vars(router).update(name=name, loaded_from=(name, dict(options)))
    return router
