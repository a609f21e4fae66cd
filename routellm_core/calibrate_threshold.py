"""RouteLLM's command, with its flags; ``routellm calibrate`` does the same and more.

::

    python -m routellm_core.calibrate_threshold --routers mf --strong-model-pct 0.5 --config config.example.yaml
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from routellm_core.cli import run_app
from routellm_core.cli._options import SeveralValuesCommand

__all__ = ["main"]


class Task(StrEnum):
    """What to do."""

    GENERATE = "generate"
    CALIBRATE = "calibrate"


def calibrate_threshold(
    routers: Annotated[list[str] | None, typer.Option("--routers", help="Routers to calibrate.")] = None,
    strong_model_pct: Annotated[
        float | None, typer.Option("--strong-model-pct", help="Share of strong calls, 0 to 1.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file.")] = None,
    task: Annotated[
        Task, typer.Option("--task", help="calibrate: print thresholds; generate: score a data set for --thresholds.")
    ] = Task.CALIBRATE,
    battles_dataset: Annotated[
        str, typer.Option("--battles_dataset", help="Data set to generate scores on: a file, or an id on the Hub.")
    ] = "lmsys/lmsys-arena-human-preference-55k",
    thresholds: Annotated[
        str | None, typer.Option("--thresholds", help="Scores to calibrate on: a file, or an id on the Hub.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="File that generate writes.")] = Path("thresholds.jsonl"),
) -> None:
    """Print each router's threshold for a share of strong calls, as RouteLLM's script of this name does."""
    from routellm_core.calibration import PromptSource
    from routellm_core.cli._calibration_run import generate_scores, print_without_prompts
    from routellm_core.config import load_config
    from routellm_core.errors import ConfigError
    from routellm_core.rows.sources import RowSource, hub_or_path

    settings, names = load_config(config), routers or ["random"]
    if task is Task.GENERATE:
        source = PromptSource(RowSource.parse(hub_or_path(battles_dataset)), first_turn=True)
        generate_scores(settings, names, source, output)
        return
    if strong_model_pct is None:
        raise ConfigError("--strong-model-pct is missing; give a share of strong calls such as 0.5")
    for name in names:
        print_without_prompts(settings, name, strong_model_pct, thresholds)


def main() -> None:
    """Run the command and exit with its status."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=SeveralValuesCommand)(calibrate_threshold)
    run_app(app)


if __name__ == "__main__":
    main()
