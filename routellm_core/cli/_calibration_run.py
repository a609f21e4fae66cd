"""What ``routellm calibrate`` and RouteLLM's command do for each router: score, find the threshold, print it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from routellm_core._publish import check_writable_file, publish_file
from routellm_core.calibration import (
    CalibrationRun,
    PromptSource,
    Target,
    calibrations_by_router,
    resolve_threshold,
    score_traffic,
    share_at_threshold,
)
from routellm_core.calibration.published import PUBLISHED_THRESHOLDS, is_published, published_threshold
from routellm_core.cli._calibration_report import headline, print_curve, print_result, rounding_note
from routellm_core.cli._console import errors, note, output
from routellm_core.config import RouteLLMConfig
from routellm_core.decision import StrongShare
from routellm_core.routers.registry import load_router
from routellm_core.score_cache import ScoreCache

__all__ = ["generate_scores", "print_run", "print_without_prompts", "scoring_progress"]


def print_without_prompts(settings: RouteLLMConfig, name: str, share: float, thresholds: str | None) -> None:
    """Print a router's threshold for a share of published scores, of its calibration, or of its reference traffic.

    Args:
        settings: the routers' options and calibrations.
        name: the router.
        share: of strong calls.
        thresholds: a file or data set with published scores; None takes RouteLLM's for what RouteLLM published.
    """
    options = settings.router_options(name)
    target = Target("share", share)
    thresholds = thresholds or (PUBLISHED_THRESHOLDS if is_published(name, options) else None)
    if thresholds is not None:
        output.print(headline(target, name, published_threshold(name, thresholds, share)), soft_wrap=True)
        _origin(f"the scores in {thresholds}")
        return
    router = load_router(name, options)
    calibration = calibrations_by_router(settings.calibration, {name: router}).get(name)
    threshold = resolve_threshold(StrongShare(share), router, calibration)
    output.print(headline(target, name, threshold), soft_wrap=True)
    quantiles = router.reference_quantiles if calibration is None else calibration.quantiles
    if quantiles is not None:
        rounded = share_at_threshold(quantiles, round(threshold, 5))
        _note(rounding_note(threshold, share_at_threshold(quantiles, threshold), rounded))
    _origin("the checkpoint's reference traffic" if calibration is None else calibration.data)


def print_run(run: CalibrationRun, *, curve: bool) -> None:
    """Print a calibration: RouteLLM's line, the figures with their intervals, and the share curve if it is wanted."""
    output.print(headline(run.result.target, run.router.name, run.threshold), soft_wrap=True)
    output.print(f"on {run.data}", markup=False, soft_wrap=True)
    print_result(run.result, output)
    if run.prices is not None:
        output.print(f"prices: {run.prices.describe()}", markup=False, soft_wrap=True)
    rounded = float((run.traffic.scores >= round(run.threshold, 5)).mean())
    _note(rounding_note(run.threshold, run.result.share.value, rounded))
    if left_out := run.traffic.without_text:
        _note(f"{left_out:,} rows without text were left out; the selector's no_prompt_tier takes such ones")
    if curve:
        print_curve(run.curve(), output)


def generate_scores(settings: RouteLLMConfig, routers: Sequence[str], source: PromptSource, destination: Path) -> None:
    """Score a data set with every router and write one JSON object a prompt, router name to score.

    The file is what ``--thresholds`` reads.
    """
    check_writable_file(destination)
    columns = {}
    total = source.count()
    for name in routers:
        router = load_router(name, settings.router_options(name))
        with scoring_progress(name, total) as report:
            columns[name] = score_traffic(router, source, cache=ScoreCache(), on_progress=report).scores
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    publish_file(destination, "".join(json.dumps(row) + "\n" for row in rows))
    output.print(f"scores of {total:,} prompts in {destination}; read them with --thresholds", soft_wrap=True)


@contextmanager
def scoring_progress(router: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar, and give the function to call with the number of further prompts that are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)
    with shown as progress:
        task = progress.add_task(f"Scoring with {router}", total=total)
        yield lambda done: progress.update(task, advance=done)


def _origin(data: str) -> None:
    errors.print(f"on {data}; calibrate on your own prompts with --prompts", soft_wrap=True)


def _note(text: str | None) -> None:
    if text:
        note(text)
