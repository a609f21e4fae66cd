"""Options that several commands share, the configuration they amount to, and options that take several values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from routellm_core._options import validated
from routellm_core.config import RouteLLMConfig, load_config

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
Column = Annotated[str | None, typer.Option("--column", help="The prompt's column.")]
StrongPrice = Annotated[
    str | None, typer.Option("--strong-price", help="Dollars per million input,output tokens: 10,30.")
]
WeakPrice = Annotated[str | None, typer.Option("--weak-price", help="The same for the weak model.")]
OutputTokens = Annotated[
    float, typer.Option("--output-tokens", min=0, help="Tokens per answer, where rows do not say.")
]
CacheFile = Annotated[
    Path | None, typer.Option("--cache", help="File of the score cache; a stopped run goes on from it.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write stored scores.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the benchmark files.", envvar="ROUTELLM_DATA_DIR", show_envvar=True),
]
AnswersDir = Annotated[Path | None, typer.Option("--answers-dir", help="Folder of answers of other models.")]

# Of every command that asks models many times; ``CallLimits`` has the meanings.
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Calls at a time.")]
Rate = Annotated[float | None, typer.Option("--requests-per-minute", min=0.01, help="Calls started per minute.")]
Attempts = Annotated[int, typer.Option("--attempts", min=1, help="Tries per call.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for a call with its retries.")]
MaxFailures = Annotated[int, typer.Option("--max-failures", min=1, help="Stop after so many failures in a row.")]


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


_SEVERAL_VALUES = ("--routers", "--overwrite-cache")


def spread_values(arguments: Sequence[str]) -> list[str]:
    """Turn ``--routers a b`` into ``--routers a --routers b``, so that RouteLLM's spelling works.

    An option without a value is dropped: RouteLLM accepts a bare ``--overwrite-cache``.
    """
    spread: list[str] = []
    current: str | None = None
    for argument in arguments:
        if argument in _SEVERAL_VALUES:
            current = argument
        elif argument.startswith("-"):
            current = None
            spread.append(argument)
        elif current is not None:
            spread += [current, argument]
        else:
            spread.append(argument)
    return spread


class SeveralValuesCommand(TyperCommand):
    """A command whose ``--routers`` may be followed by several names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give every value its own option first."""
        return super().parse_args(ctx, spread_values(args))


class SeveralValuesGroup(TyperGroup):
    """The same for a group with options of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give every value its own option first."""
        return super().parse_args(ctx, spread_values(args))
