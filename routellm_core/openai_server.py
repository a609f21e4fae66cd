"""RouteLLM's command, with its flags; the same as ``routellm serve``.

::

    python -m routellm_core.openai_server --routers mf --strong-model gpt-4-1106-preview --weak-model ollama_chat/llama3
"""

from __future__ import annotations

import typer

from routellm_core.cli import run_app
from routellm_core.cli._options import SeveralValuesCommand
from routellm_core.cli.serve import serve

__all__ = ["main"]


def main() -> None:
    """Run the server and exit with its status."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=SeveralValuesCommand)(serve)
    run_app(app)


if __name__ == "__main__":
    main()
