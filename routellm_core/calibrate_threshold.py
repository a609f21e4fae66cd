"""RouteLLM's command, with its flags; ``routellm calibrate`` does the same and more.

::

    python -m routellm_core.calibrate_threshold --routers mf --strong-model-pct 0.5 --config config.example.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from routellm_core.calibration import Target
from routellm_core.cli._calibration_run import CalibrationRequest, calibrate_routers, generate_scores
from routellm_core.cli._console import errors
from routellm_core.config import load_config
from routellm_core.errors import ConfigError, RouteLLMError
from routellm_core.evals.score_cache import ScoreCache
from routellm_core.rows.files import HUB_PREFIX

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m routellm_core.calibrate_threshold", description=__doc__)
    parser.add_argument("--routers", nargs="+", default=["random"], help="routers to calibrate")
    parser.add_argument("--strong-model-pct", type=float, help="share of strong calls, 0 to 1")
    parser.add_argument("--config", type=Path, help="YAML file")
    parser.add_argument(
        "--task",
        choices=["generate", "calibrate"],
        default="calibrate",
        help="calibrate: print thresholds; generate: score a data set and keep the scores for --thresholds",
    )
    parser.add_argument(
        "--battles_dataset",
        default="lmsys/lmsys-arena-human-preference-55k",
        help="data set to generate scores on: a file, or an id on the Hub",
    )
    parser.add_argument("--thresholds", help="scores to calibrate on: a file, or an id on the Hub")
    parser.add_argument("--output", type=Path, default=Path("thresholds.jsonl"), help="file that generate writes")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    generates = arguments.task == "generate"
    if not generates and arguments.strong_model_pct is None:
        raise ConfigError("--strong-model-pct is missing; give a share of strong calls such as 0.5")
    dataset = arguments.battles_dataset
    request = CalibrationRequest(
        routers=tuple(arguments.routers),
        settings=load_config(arguments.config),
        target=Target("share", arguments.strong_model_pct or 0.0),
        prompts=(dataset if Path(dataset).exists() else f"{HUB_PREFIX}{dataset}") if generates else None,
        first_turn=generates,  # a cell of the arena's prompts is a JSON list of turns
        thresholds=arguments.thresholds,
        cache=ScoreCache(),
    )
    if generates:
        generate_scores(request, arguments.output)
    else:
        calibrate_routers(request)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for anything wrong with the request or the files."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except RouteLLMError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
