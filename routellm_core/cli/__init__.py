"""The ``routellm`` command.

Exit status: 0 done; 1 a model or an embedding failed; 2 wrong usage, configuration or data; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["main", "run_app"]


def main() -> None:
    """Run the command line and exit with its status."""
    from routellm_core.cli._app import app

    run_app(app)


def run_app(app: Callable[[], Any]) -> None:
    """Run a typer application; what is raised on purpose becomes a message and an exit status."""
    from routellm_core.cli._console import errors
    from routellm_core.errors import (
        ConfigError,
        InvalidThresholdError,
        MissingExtraError,
        RouteLLMError,
        UnknownRouterError,
    )

    try:
        app()
    except RouteLLMError as error:
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
        wrong_usage = (ConfigError, InvalidThresholdError, MissingExtraError, UnknownRouterError)
        sys.exit(2 if isinstance(error, wrong_usage) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (head, less) left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
