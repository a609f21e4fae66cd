"""Options that several commands share, and the configuration they amount to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from routellm_core._options import validated
from routellm_core.config import RouteLLMConfig, load_config

if TYPE_CHECKING:
    from routellm_core.asking.calls import CallLimits

__all__ = [
    "CallOptions",
    "Config",
    "RouterName",
    "StrongModel",
    "Threshold",
    "WeakModel",
    "configuration",
    "with_grouped_options",
]

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; see config.example.yaml.", envvar="ROUTELLM_CONFIG")
]
RouterName = Annotated[str | None, typer.Option("--router", "-r", help="Router to score with.", show_default="mf")]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold", "-t", help="A score that reaches it goes strong; or a share: 50%.", show_default="0.116"
    ),
]
StrongModel = Annotated[str | None, typer.Option("--strong-model", help="The strong model, by litellm's name.")]
WeakModel = Annotated[str | None, typer.Option("--weak-model", help="The weak model, by litellm's name.")]


@dataclass(frozen=True)
class CallOptions:
    """What every command that asks models many times takes; ``CallLimits`` has the meanings."""

    concurrency: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 8
    requests_per_minute: Annotated[float | None, typer.Option(min=0.01, help="Calls started per minute.")] = None
    attempts: Annotated[int, typer.Option(min=1, help="Tries per call.")] = 5
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a call with its retries.")] = 600.0
    max_failures: Annotated[int, typer.Option(min=1, help="Stop after so many failures in a row.")] = 10

    def limits(self, *, max_cost: float | None = None) -> CallLimits:
        """Return them for the runner."""
        from routellm_core.asking.calls import CallLimits

        return CallLimits(
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            attempts=self.attempts,
            call_seconds=self.timeout,
            failures_in_a_row=self.max_failures,
            max_cost=max_cost,
        )


def with_grouped_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, in which each parameter that is a dataclass of options becomes its fields."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    def run(**values: Any) -> None:
        built = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**built, **values)

    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _fields_of(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _fields_of(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def configuration(
    path: Path | None,
    *,
    router: str | None = None,
    threshold: str | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    api_base: str | None = None,
    api_key: str | None = None,
    server: Mapping[str, Any] | None = None,
) -> RouteLLMConfig:
    """Return the configuration with what the command line gave on top.

    Raises:
        ConfigError: from :func:`load_config`, or a value that does not fit.
        InvalidThresholdError: a threshold that is not a number in [0, 1].
    """
    config = load_config(path)
    models = {
        "strong": {"model": strong_model, "api_base": api_base, "api_key": api_key},
        "weak": {"model": weak_model, "api_base": api_base, "api_key": api_key},
    }
    changed: dict[str, Any] = {
        "models": {
            tier: {**getattr(config.models, tier).model_dump(), **_given(settings)} for tier, settings in models.items()
        },
        "server": {**config.server.model_dump(), **_given(dict(server or {}))},
        **_given({"router": router, "threshold": threshold}),
    }
    return validated(RouteLLMConfig, {**config.model_dump(), **changed}, subject="command line")


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
