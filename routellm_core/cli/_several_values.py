"""Options that take several values after one name, as RouteLLM's argparse flags do: ``--routers random mf``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

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
