"""``python -m routellm_core.evals.evaluate``, with RouteLLM's flags; it is ``routellm evaluate``."""

from __future__ import annotations

from collections.abc import Sequence

from routellm_core.cli import run_app
from routellm_core.cli.evaluate import evaluate_app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, with the process's own arguments by default, and exit with its status."""
    run_app(lambda: evaluate_app(arguments, prog_name="python -m routellm_core.evals.evaluate"))


if __name__ == "__main__":
    main()
