"""What saved programs hold: functions and classes as ``"package.module:Name"``, routers as their class and options."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from routellm_core import Router
from routellm_core.errors import UnknownRouterError
from routellm_core.routers.registry import build_router, router_class

__all__ = ["dump_router", "import_path", "imported", "load_saved_router"]


def import_path(target: Any, option: str) -> str:
    """Return the name that :func:`imported` finds ``target`` by.

    Raises:
        TypeError: no module holds it under its name (a lambda, a local function or class).
    """
    path = f"{getattr(target, '__module__', None)}:{getattr(target, '__qualname__', None)}"
    try:
        is_found = imported(path) is target
    except (ImportError, AttributeError, ValueError):
        is_found = False
    if not is_found:
        raise TypeError(
            f"{option}={target!r} cannot be saved: it is not importable as {path!r}. Define it at the top of a module"
        )
    return path


def imported(path: str) -> Any:
    """Import ``"package.module:Name"``."""
    module, _, name = path.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


_loaded: WeakValueDictionary[str, Router] = WeakValueDictionary()
_loading = threading.Lock()


def dump_router(router: Router) -> dict[str, Any]:
    """Return a router's class and options as JSON-ready values; what it has loaded is left out.

    Raises:
        TypeError: its class built it rather than a name, an option is no plain value, or the class cannot be imported.
    """
    if router.loaded_from is None:
        raise TypeError(
            f"the router {router.name!r} cannot be saved as JSON: it was built by its class. Build it by its name and "
            "options, load_router(name, options), or save the whole program with save_program=True"
        )
    name, options = router.loaded_from
    try:
        is_registered = router_class(name) is type(router)
    except UnknownRouterError:
        is_registered = False
    record = {
        "name": name,
        "class": None if is_registered else import_path(type(router), "router"),
        "options": dict(options),
    }
    try:
        json.dumps(record)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the router {name!r} cannot be saved as JSON: {error}. Configure it by plain values (paths as text, an "
            "embedder by its name), or save the whole program with save_program=True"
        ) from error
    return record


def load_saved_router(record: Mapping[str, Any]) -> Router:
    """Build the router of a record, or return the one that was built from an equal record and is still in use."""
    key = json.dumps(dict(record), sort_keys=True)
    with _loading:
        router = _loaded.get(key)
        if router is None:
            kind = imported(record["class"]) if record["class"] else router_class(record["name"])
            router = _loaded[key] = build_router(kind, record["name"], record["options"])
    return router
