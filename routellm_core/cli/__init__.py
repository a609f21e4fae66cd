"""The ``routellm`` command.

Exit status: 0 done; 1 a model, an embedding or a file failed; 2 wrong usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main", "run_app"]


def main() -> None:
    """Run the command line and exit with its status."""
    from routellm_core.cli._app import app

    run_app(app)


def run_app(app: Callable[[], Any]) -> None:
    """Run a typer application; what is raised on purpose becomes a message and an exit status."""
    from routellm_core.cli._console import note, say
    from routellm_core.errors import (
        ConfigError,
        InvalidThresholdError,
        MissingExtraError,
        RouteLLMError,
        UnknownRouterError,
    )

    show = warnings.showwarning

    def show_ours_as_notes(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        is_ours = category is UserWarning and Path(filename).is_relative_to(Path(__file__).parents[1])
        note(str(message)) if is_ours else show(message, category, filename, *rest)

    warnings.showwarning = show_ours_as_notes  # type: ignore[assignment]
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
