"""``python -m routellm_core.evals.evaluate``, with RouteLLM's flags; ``routellm evaluate`` does the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from routellm_core.config import load_config
from routellm_core.errors import ConfigError, RouteLLMError
from routellm_core.evals.benchmarks import Benchmark, available_benchmarks, load_benchmark, load_tabular
from routellm_core.evals.benchmarks.base import PUBLISHED_PAIR
from routellm_core.evals.costs import cost_table
from routellm_core.evals.data import resolve_data_dir
from routellm_core.evals.progress import scoring_progress
from routellm_core.evals.report import write_report
from routellm_core.evals.router_results import EvaluationSettings
from routellm_core.evals.runner import Evaluation, run_evaluation
from routellm_core.evals.tables import markdown
from routellm_core.pricing import parse_price
from routellm_core.routers import available_routers, load_router
from routellm_core.score_cache import ScoreCache
from routellm_core.types import ModelPair

__all__ = ["EvaluationRequest", "evaluate", "load_requested_benchmark", "main", "print_summary"]


@dataclass(frozen=True)
class EvaluationRequest:
    """One call of the command.

    Attributes:
        routers: names of registered routers.
        benchmark: a benchmark's name; None with ``data``.
        data: own labelled rows, as :func:`load_tabular` takes them; None with ``benchmark``.
        column: the prompt's column in ``data``.
        output_tokens: tokens per answer, where ``data`` does not say.
        output: folder of the results.
        overwrite_cache: routers whose stored scores are dropped.
        strong_model: the strong model; the published one by default.
        weak_model: the weak model.
        config: YAML file with the routers' options.
        data_dir: folder of the benchmark files.
        answers_dir: folder of graded answers for other models than the published.
        cache: the score cache's file; the user's cache folder by default.
        use_cache: whether to use it at all.
        strong_price: ``"input,output"`` dollars per million tokens, instead of the price map's.
        weak_price: the same for the weak model.
        plots: whether to draw.
        settings: numbers of steps and repetitions, and seeds.
    """

    routers: tuple[str, ...]
    benchmark: str | None = None
    data: Any = None
    column: str | None = None
    output_tokens: float = 300.0
    output: Path = Path()
    overwrite_cache: tuple[str, ...] = ()
    strong_model: str | None = None
    weak_model: str | None = None
    config: Path | None = None
    data_dir: Path | None = None
    answers_dir: Path | None = None
    cache: Path | None = None
    use_cache: bool = True
    strong_price: str | None = None
    weak_price: str | None = None
    plots: bool = True
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)


def load_requested_benchmark(request: EvaluationRequest) -> Benchmark:
    """Load the benchmark or the own file that a request names.

    Raises:
        ConfigError: neither or both are named, or loading fails.
    """
    if (request.benchmark is None) == (request.data is None):
        raise ConfigError(
            f"give either --benchmark ({', '.join(available_benchmarks())}) or --data with a file of your own prompts"
        )
    if request.data is not None:
        pair = ModelPair(request.strong_model or "strong", request.weak_model or "weak")
        return load_tabular(request.data, pair=pair, column=request.column, output_tokens=request.output_tokens)
    pair = ModelPair(request.strong_model or PUBLISHED_PAIR.strong, request.weak_model or PUBLISHED_PAIR.weak)
    data_dir = resolve_data_dir(request.data_dir)
    return load_benchmark(str(request.benchmark), data_dir=data_dir, pair=pair, answers_dir=request.answers_dir)


def evaluate(request: EvaluationRequest, *, console: Console | None = None) -> tuple[Evaluation, list[Path]]:
    """Do what a request asks for and write its report.

    Args:
        request: what to do.
        console: shows progress; none by default.

    Returns:
        the evaluation and the files written.

    Raises:
        RouteLLMError: anything that goes wrong, in a sentence for a person.
    """
    benchmark = load_requested_benchmark(request)
    config = load_config(request.config)
    routers = {name: load_router(name, config.router_options(name)) for name in dict.fromkeys(request.routers)}
    costs = cost_table(
        benchmark,
        strong_price=parse_price(request.strong_price) if request.strong_price else None,
        weak_price=parse_price(request.weak_price) if request.weak_price else None,
    )
    with scoring_progress(console) as on_progress:
        evaluation = run_evaluation(
            benchmark,
            routers,
            settings=request.settings,
            cache=ScoreCache(request.cache) if request.use_cache else None,
            overwrite_cache=request.overwrite_cache,
            costs=costs,
            on_progress=on_progress,
        )
    with_plots = request.plots and _can_plot(console)
    return evaluation, write_report(evaluation, request.output, with_plots=with_plots)


def _can_plot(console: Console | None) -> bool:
    if find_spec("matplotlib") is not None:
        return True
    if console is not None:  # the tables are what was asked for; they are not lost for want of a picture
        console.print("no plots: they need matplotlib, pip install 'routellm-core[eval]'", markup=False)
    return False


def print_summary(evaluation: Evaluation, files: Sequence[Path], *, console: Console) -> None:
    """Print every router's rows, then the tables, then where the files are."""
    for router in evaluation.routers:
        console.print(f"{router.name} on {evaluation.benchmark.title}", highlight=False)
        for row in router.rows:
            console.print(
                f"  threshold {row.threshold:.5f}: quality {row.quality:.3f}, strong calls {row.strong_calls}"
                f"/{row.calls} ({row.strong_share:.2%})",
                highlight=False,
            )
    console.print()
    console.print(markdown(evaluation), markup=False, highlight=False, soft_wrap=True)
    for path in files:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m routellm_core.evals.evaluate", description="Evaluate routers.")
    parser.add_argument("--routers", nargs="+", default=["random"], help=f"of {', '.join(available_routers())}")
    parser.add_argument("--benchmark", help=f"one of {', '.join(available_benchmarks())}")
    parser.add_argument("--data", help="own labelled rows: a file, a folder or hf:owner/data-set")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the results")
    parser.add_argument("--overwrite-cache", nargs="*", default=[], help="routers to score anew")
    parser.add_argument("--parallel", type=int, help="accepted for RouteLLM's sake; scoring is batched instead")
    parser.add_argument("--strong-model")
    parser.add_argument("--weak-model")
    parser.add_argument("--config", type=Path, help="YAML file with the routers' options")
    parser.add_argument("--num-results", type=int, default=10, help="steps between all strong and all weak")
    parser.add_argument("--random-iters", type=int, default=10, help="repetitions of the random router")
    parser.add_argument("--data-dir", type=Path, help="folder of the benchmark files")
    parser.add_argument("--answers-dir", type=Path, help="folder of graded answers of other models")
    parser.add_argument("--cache", type=Path, help="file of the score cache")
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write stored scores")
    parser.add_argument("--no-plots", action="store_true")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--seed", type=int, default=0, help="seeds the resamples")
    parser.add_argument("--at-share", type=float, default=0.5, help="share of strong calls for PGR")
    parser.add_argument("--strong-price", help="dollars per million input,output tokens, such as 10,30")
    parser.add_argument("--weak-price")
    return parser


def _request(arguments: argparse.Namespace) -> EvaluationRequest:
    return EvaluationRequest(
        routers=tuple(arguments.routers),
        benchmark=arguments.benchmark,
        data=arguments.data,
        output=arguments.output,
        overwrite_cache=tuple(arguments.overwrite_cache),
        strong_model=arguments.strong_model,
        weak_model=arguments.weak_model,
        config=arguments.config,
        data_dir=arguments.data_dir,
        answers_dir=arguments.answers_dir,
        cache=arguments.cache,
        use_cache=not arguments.no_cache,
        strong_price=arguments.strong_price,
        weak_price=arguments.weak_price,
        plots=not arguments.no_plots,
        settings=EvaluationSettings(
            num_results=arguments.num_results,
            random_iters=arguments.random_iters,
            resamples=arguments.resamples,
            seed=arguments.seed,
            at_share=arguments.at_share,
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for anything wrong with the request or the files."""
    arguments = _parser().parse_args(argv)
    try:
        evaluation, files = evaluate(_request(arguments), console=Console(stderr=True))
    except RouteLLMError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    print_summary(evaluation, files, console=Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
