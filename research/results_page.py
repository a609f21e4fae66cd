"""Writes docs/results.md: every router that can run here beside the published figures.

``python -m research.results_page`` does everything: it scores (or reads cached scores), draws the plots and
writes the page, so that no figure in it is typed by hand.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.console import Console

from benchmarks.litellm_auto import LiteLLMHeuristicV1, LiteLLMHeuristicV2
from research.published import PUBLISHED
from routellm_core._publish import publish_file
from routellm_core.cli._console import errors, progress_bars, say
from routellm_core.errors import RouteLLMError
from routellm_core.evals.benchmarks import load_benchmark
from routellm_core.evals.costs import cost_table
from routellm_core.evals.data import resolve_data_dir
from routellm_core.evals.plots import plot_cost_quality
from routellm_core.evals.report import fraction, markdown_table, percent, write_tables
from routellm_core.evals.router_results import EvaluationSettings, RouterResult
from routellm_core.evals.runner import Evaluation, run_evaluation
from routellm_core.routers import Router, load_router
from routellm_core.score_cache import ScoreCache
from routellm_core.types import FloatArray

__all__ = ["VARIANTS", "PromptLength", "Variant", "main", "results_page"]

BENCHMARKS = ("mt-bench", "mmlu", "gsm8k")
COMMAND = "python -m research.results_page"


class PromptLength(Router):
    """Scores a prompt by its length alone: what a router has to beat to have learned anything."""

    name: ClassVar[str] = "prompt length"

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return n / (n + 300) for prompts of n characters, shape (n,)."""
        return np.array([len(prompt) / (len(prompt) + 300.0) for prompt in prompts], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the tables.

    Attributes:
        label: its name there.
        router: the registered router; None for one that ``make`` makes.
        options: the router's options.
        training_data: what it was trained on; by default what the router's ``describe()`` says.
    """

    label: str
    router: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    training_data: str | None = None
    make: Callable[[], Router] = PromptLength

    def load(self) -> Router:
        """Build the router."""
        return self.make() if self.router is None else load_router(self.router, self.options)


_JUDGED = (
    "how hard an LLM judged 16,151 prompts and translations to be from the prompt alone, and how hard 18,668 prompts "
    "of public exams are for many models; no row of these benchmarks"
)
VARIANTS: tuple[Variant, ...] = (
    Variant("mf", "mf", training_data=_JUDGED),
    Variant("sw_ranking", "sw_ranking", training_data="2,996 chat prompts, judged from the prompt alone by an LLM"),
    Variant(
        "litellm auto-router v1", None, training_data="nothing: litellm's keyword heuristic", make=LiteLLMHeuristicV1
    ),
    Variant(
        "litellm auto-router v2",
        None,
        training_data="UltraFeedback's statistics, as litellm ships",
        make=LiteLLMHeuristicV2,
    ),
    Variant("bert", "bert"),
    Variant("causal_llm", "causal_llm"),
    Variant("prompt length", None, training_data="nothing: the length of the prompt"),
    Variant("random", "random", training_data="nothing: ten seeded repetitions, as RouteLLM averages them"),
)
"""The routers of the page, in their default configuration unless the label says otherwise."""


def results_page(
    *,
    data_dir: Path,
    output: Path,
    variants: Sequence[Variant] = VARIANTS,
    settings: EvaluationSettings | None = None,
    cache: ScoreCache | None = None,
    console: Console | None = None,
) -> Path:
    """Evaluate, draw and write.

    Args:
        data_dir: folder of the benchmark files.
        output: the documentation folder; the page is ``results.md`` there and its plots and tables are in ``results``.
        variants: the rows.
        settings: as for every evaluation.
        cache: score cache.
        console: told what happens.

    Returns:
        the page.

    Raises:
        RouteLLMError: the data is missing, or a router that loads fails to score.
    """
    console = console or Console(quiet=True)
    routers, missing = _load(variants)
    for label, reason in missing.items():
        console.print(f"{label}: not run ({reason})", markup=False)
    sections, last = [], None
    for name in BENCHMARKS:
        benchmark = load_benchmark(name, data_dir=data_dir)
        fresh, _ = _load([variant for variant in variants if variant.label in routers])
        console.print(f"evaluating {len(fresh)} routers on {benchmark.title}")
        with progress_bars("scoring", console=console) as on_progress:
            last = run_evaluation(
                benchmark, fresh, settings=settings, cache=cache, costs=cost_table(benchmark), on_progress=on_progress
            )
        folder = output / "results"
        plot_cost_quality(last, folder / name)
        write_tables(last, folder)
        sections.append(_section(last, {variant.label: variant for variant in variants}))
    page = output / "results.md"
    publish_file(page, "\n\n".join([_INTRODUCTION, *sections, _not_run(missing), _made_by(last)]) + "\n")
    return page


_INTRODUCTION = f"""# Results

This page is written by `{COMMAND}`. Each table lists this library's routers, the baselines
they have to beat and the figures that RouteLLM's paper published for the same prompts and models (GPT-4 Turbo against
Mixtral 8x7B).

How to read it:

- **CPT(x)** is the share of calls to the strong model that recovers x of the gap between the models; lower is better.
- **APGR** is the mean gap recovered over all shares; higher is better, chance is 0.5. The paper takes the mean over ten
  cost points, its code a trapezoid over the measured points; both are given.
- **Brackets** are 95 % intervals from resampling the prompts. The published figures come without.
- Routers differ in what they were **trained on**; compare rows with that column in view. On MMLU, the published
  routers with labelled questions have seen its validation split.
- **Dollars** can tell another story than shares of calls: a router that sends the long prompts to the strong model pays
  more for the same share. Chance is the yardstick there too.
- The best single model is always the strong one, at 100 % of its price. Routing trades some of its quality for cost."""


def _load(variants: Iterable[Variant]) -> tuple[dict[str, Router], dict[str, str]]:
    """Return routers by label, and why the others cannot run here."""
    loaded: dict[str, Router] = {}
    missing: dict[str, str] = {}
    for variant in variants:
        try:
            loaded[variant.label] = variant.load()
        except (RouteLLMError, ImportError) as error:
            missing[variant.label] = str(error).splitlines()[0]
    return loaded, missing


def _section(evaluation: Evaluation, variants: Mapping[str, Variant]) -> str:
    benchmark, baselines = evaluation.benchmark, evaluation.baselines
    header = ["router", "trained on", "CPT(50%)", "CPT(80%)", "APGR (trapezoid)", "APGR (paper)", "dollars at 50%"]
    ordered = sorted(evaluation.routers, key=lambda router: -router.metrics["apgr_paper"].value)
    rows = [_row(router, variants[router.name]) for router in ordered]
    chance = f"0.500 [{baselines.random_apgr.low:.3f}, {baselines.random_apgr.high:.3f}]"
    rows += [
        [
            "*chance, exact*",
            "–",
            "50",
            "80",
            chance,
            "0.500",
            _halfway(evaluation),
        ],
        ["*oracle*", "the answers", "", "", f"{baselines.oracle_apgr:.3f}", "", ""],
    ]
    published = [
        [f"RouteLLM {row.router}", row.training_data, f"{row.cpt50:.2%}", f"{row.cpt80:.2%}", "", f"{row.apgr:.3f}", ""]
        for row in sorted(PUBLISHED, key=lambda row: -row.apgr)
        if row.benchmark == benchmark.name
    ]
    return "\n\n".join(
        [
            f"## {benchmark.title}",
            f"{len(benchmark):,} prompts after decontamination. Best single model: {baselines.best_single}, "
            f"{baselines.best_single_quality:.2f}; the weak model: {benchmark.weak_mean:.2f} "
            f"({benchmark.quality_label}). " + _prices(evaluation),
            markdown_table(header, rows),
            "Published:",
            markdown_table(header[:6], [row[:6] for row in published]),
            f"![Quality against calls to the strong model on {benchmark.title}](results/{benchmark.name}.svg)",
            _comparisons(evaluation),
            f"All thresholds, figures and subjects: [thresholds](results/{benchmark.name}_thresholds.csv), "
            f"[metrics](results/{benchmark.name}_metrics.csv), [subjects](results/{benchmark.name}_groups.csv).",
        ]
    )


def _row(router: RouterResult, variant: Variant) -> list[str]:
    trained_on = variant.training_data or str(router.description.get("training_data") or "see its model card")
    dollars = router.dollars_at["cpt50"] if router.dollars_at else math.nan
    return [
        f"**{router.name}**",
        trained_on,
        percent(router.metrics["cpt50"]),
        percent(router.metrics["cpt80"]),
        fraction(router.metrics["apgr"]),
        fraction(router.metrics["apgr_paper"]),
        "" if math.isnan(dollars) else f"{dollars:.3f}",
    ]


def _halfway(evaluation: Evaluation) -> str:
    costs = evaluation.costs
    return f"{(costs.strong_dollars + costs.weak_dollars) / 2:.3f}" if costs else ""


def _prices(evaluation: Evaluation) -> str:
    costs = evaluation.costs
    if costs is None:
        return ""
    return (
        f"Dollars per 1,000 prompts: {costs.strong_dollars:.3f} all strong, {costs.weak_dollars:.3f} all weak "
        f"(tokens: {costs.note}); the column gives the price of recovering half of the gap."
    )


def _comparisons(evaluation: Evaluation) -> str:
    rows = [
        [
            f"{pair.first} − {pair.second}",
            f"{pair.difference:+.3f}",
            f"[{pair.interval.low:+.3f}, {pair.interval.high:+.3f}]",
        ]
        for pair in evaluation.comparisons
        if pair.metric == "apgr_paper"
    ]
    return "Difference in APGR (paper) on the same prompts, with a paired interval:\n\n" + markdown_table(
        ["routers", "difference", "95 % interval"], rows
    )


def _not_run(missing: Mapping[str, str]) -> str:
    if not missing:
        return "## Not run\n\nEvery router ran."
    return "## Not run\n\n" + markdown_table(["router", "why"], [[label, why] for label, why in missing.items()])


def _made_by(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return ""
    versions = ", ".join(f"{name} {value}" for name, value in evaluation.versions.items() if name != "platform")
    settings = evaluation.settings
    fingerprints = markdown_table(
        ["router", "fingerprint"], [[router.name, f"`{router.fingerprint}`"] for router in evaluation.routers]
    )
    return (
        f"## Made by\n\n`{COMMAND}` with {settings.resamples} resamples, seed {settings.seed}, {settings.num_results} "
        f"steps; {versions}.\n\n{fingerprints}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write docs/results.md.")
    parser.add_argument("--data-dir", type=Path, help="folder of the benchmark files")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="the documentation folder")
    parser.add_argument("--cache", type=Path, help="file of the score cache")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", nargs="+", help=f"of {', '.join(variant.label for variant in VARIANTS)}")
    arguments = parser.parse_args(argv)
    try:
        page = results_page(
            data_dir=resolve_data_dir(arguments.data_dir),
            output=arguments.output,
            variants=[item for item in VARIANTS if arguments.only is None or item.label in arguments.only],
            settings=EvaluationSettings(resamples=arguments.resamples),
            cache=ScoreCache(arguments.cache),
            console=errors,
        )
    except RouteLLMError as error:
        say("red", "error:", str(error))
        return 2
    errors.print(f"wrote {page}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
