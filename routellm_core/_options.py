"""Building an object from configured options, with errors that name the option and the nearest valid one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from routellm_core.errors import ConfigError, did_you_mean

Location: TypeAlias = tuple[int | str, ...]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def build_from_options(factory: Callable[..., T], options: Mapping[str, Any], *, subject: str) -> T:
    """Call ``factory`` with ``options`` as keyword arguments, refusing unknown and missing ones first.

    Args:
        factory: a class or function with keyword parameters.
        options: the configured options.
        subject: what is being built, as the subject of the error ("router 'mf'").

    Raises:
        ConfigError: an option that ``factory`` does not take, or a required one that is not given.
    """
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            raise ConfigError(
                f"{subject} has no option {option!r}; its options are {', '.join(parameters) or '(none)'}."
                f"{did_you_mean(str(option), parameters)}"
            )
    for name, parameter in parameters.items():
        is_required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if is_required and name not in options:
            raise ConfigError(f"{subject} needs the option {name!r}, which was not given")
    return factory(**options)


def validated(model: type[M], data: Any, *, subject: str, sources: Mapping[Location, str] | None = None) -> M:
    """Validate ``data`` with a pydantic model.

    Args:
        model: the model class.
        data: plain values, as from YAML.
        subject: what ``data`` is, for the error ("config.yaml").
        sources: where single values came from that are not the subject's, by their path in ``data``.

    Raises:
        ConfigError: lists every fault with its path, what was got and the nearest valid name.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for fault in error.errors(include_url=False):
            faults.setdefault(_source(fault, sources or {}) or subject, []).append(_describe_fault(model, fault))
        described = (f"{source}: {'; '.join(found)}" for source, found in faults.items())
        raise ConfigError("; ".join(described)) from None  # pydantic's own text may quote a secret


def _source(fault: ErrorDetails, sources: Mapping[Location, str]) -> str | None:
    path = fault["loc"]
    for location, source in sources.items():
        shared = min(len(path), len(location))
        if path[:shared] == location[:shared]:
            return source
    if fault["type"] == "missing":  # what is there without it is at fault
        return next((source for location, source in sources.items() if location[:-1] == path[:-1]), None)
    return None


def _describe_fault(model: type[BaseModel], fault: ErrorDetails) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "the top level"
    if fault["type"] == "extra_forbidden":
        allowed = fields_at(model, fault["loc"][:-1])
        unknown = str(fault["loc"][-1])
        return f"unknown key {path!r}; allowed here: {', '.join(allowed)}.{did_you_mean(unknown, allowed)}"
    if fault["type"] == "missing":
        return f"{path!r} is missing"
    got = "" if "key" in path else f", got {fault['input']!r}"
    return f"{path!r}: {fault['msg'].removeprefix('Value error, ')}{got}"


def fields_at(model: type[BaseModel], path: Location) -> list[str]:
    """Return the names that a configuration may hold at a path; those of its parent where it is no section."""
    current: type[BaseModel] | None = model
    for part in path:
        field = current.model_fields.get(str(part)) if current else None
        candidates = (field.annotation, *get_args(field.annotation)) if field else ()
        nested = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
        current = nested[0] if nested else current
    return list(current.model_fields) if current else []
