"""The ``routellm`` command.

Exit status: 0 done; 1 a model or an embedding failed; 2 wrong usage, configuration or data; 130 interrupted.
"""

from __future__ import annotations

import logging
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
    from routellm_core.cli._console import say
    from routellm_core.errors import (
        ConfigError,
        InvalidThresholdError,
        MissingExtraError,
        RouteLLMError,
        UnknownRouterError,
    )

    logging.getLogger("routellm_core").addHandler(_Notes(logging.WARNING))
    try:
        app()
    except RouteLLMError as error:
        say("bold red", "error:", str(error))
        wrong_usage = (ConfigError, InvalidThresholdError, MissingExtraError, UnknownRouterError)
        sys.exit(2 if isinstance(error, wrong_usage) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (head, less) left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # standard output on a full disk, a file that was taken away meanwhile
        say("bold red", "error:", str(error))
        sys.exit(1)


class _Notes(logging.Handler):
    """Shows what the library logs as a warning, unless the program logs itself, as the server does."""

    def emit(self, record: logging.LogRecord) -> None:
        from routellm_core.cli._console import note

        if not logging.getLogger().handlers:
            note(record.getMessage())
