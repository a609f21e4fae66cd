"""One run of ``routellm calibrate``: for each router, the threshold for a target, printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from routellm_core.calibration import (
    CalibrationRun,
    PromptSource,
    Target,
    TokenPrices,
    calibrate,
    calibrations_by_router,
    resolve_threshold,
    score_traffic,
    share_at_threshold,
)
from routellm_core.calibration.published import PUBLISHED_THRESHOLDS, is_published, published_threshold
from routellm_core.cli._calibration_report import headline, print_curve, print_result, rounding_note
from routellm_core.cli._console import errors, output
from routellm_core.config import RouteLLMConfig
from routellm_core.decision import StrongShare
from routellm_core.errors import ConfigError
from routellm_core.routers.registry import load_router
from routellm_core.rows.sources import RowSource
from routellm_core.score_cache import ScoreCache
from routellm_core.types import FloatArray

__all__ = ["CalibrationRequest", "calibrate_routers", "generate_scores"]

_NEEDS_PROMPTS = {
    "cost": "--max-cost needs --prompts: a threshold's cost depends on the prompts that it sends to the strong model",
    "quality": "--min-quality needs --prompts: rows with the quality of both models, in columns 'strong' and 'weak'",
}


@dataclass(frozen=True)
class CalibrationRequest:
    """What ``routellm calibrate`` was asked; see its options."""

    routers: tuple[str, ...]
    settings: RouteLLMConfig
    target: Target
    prompts: str | None = None
    column: str | None = None
    first_turn: bool = False
    thresholds: str | None = None
    strong_price: str | None = None
    weak_price: str | None = None
    output_tokens: float = 300.0
    evaluation_size: float | None = None
    level: float = 0.99
    batch_size: int = 512
    cache: ScoreCache | None = None
    save: Path | None = None
    curve: bool = True

    @property
    def source(self) -> PromptSource:
        """The prompts, with the names of the models."""
        models = self.settings.models
        pair = models.strong.model, models.weak.model
        return PromptSource(RowSource.parse(self.prompts), self.column, self.first_turn, pair)


def calibrate_routers(request: CalibrationRequest) -> None:
    """Print each router's threshold for the target.

    Raises:
        ConfigError: options that do not go together, unreadable data, or an unsupported target.
        RouteLLMError: whatever loading and scoring raise.
    """
    if request.save is not None and (request.prompts is None or len(request.routers) != 1):
        raise ConfigError("--save keeps the calibration of one router on --prompts; give both")
    if request.prompts is None:
        if request.target.kind != "share":
            raise ConfigError(_NEEDS_PROMPTS[request.target.kind])
        for name in request.routers:
            _print_without_prompts(name, request)
        return
    source, models = request.source, request.settings.models
    if not source.rows.is_rereadable and len(request.routers) > 1:
        raise ConfigError(f"{source.rows.name} can be read only once; give one router, or a file")
    prices = TokenPrices.of(
        models.strong,
        models.weak,
        strong_price=request.strong_price,
        weak_price=request.weak_price,
        output_tokens=request.output_tokens,
    )
    total = source.count()
    for name in request.routers:
        router = load_router(name, request.settings.router_options(name))
        with _progress(f"Scoring with {name}", total) as report:
            run = calibrate(
                router,
                source,
                request.target,
                prices=prices,
                evaluation_size=request.evaluation_size,
                level=request.level,
                batch_size=request.batch_size,
                cache=request.cache,
                on_progress=report,
            )
        _print_run(name, run, request)


def _print_without_prompts(name: str, request: CalibrationRequest) -> None:
    share, options = request.target.value, request.settings.router_options(name)
    thresholds = request.thresholds or (PUBLISHED_THRESHOLDS if is_published(name, options) else None)
    if thresholds is not None:
        threshold = published_threshold(name, thresholds, share)
        output.print(headline(request.target, name, threshold), soft_wrap=True)
        errors.print(
            f"[dim]on the scores in {thresholds}; calibrate on your own prompts with --prompts[/]", soft_wrap=True
        )
        return
    router = load_router(name, options)
    calibration = calibrations_by_router(request.settings.calibration, {name: router}).get(name)
    threshold = resolve_threshold(StrongShare(share), router, calibration)
    output.print(headline(request.target, name, threshold), soft_wrap=True)
    quantiles = router.reference_quantiles if calibration is None else calibration.quantiles
    if quantiles is not None:
        rounded = share_at_threshold(quantiles, round(threshold, 5))
        _note(rounding_note(threshold, share_at_threshold(quantiles, threshold), rounded))
    origin = "the checkpoint's reference traffic" if calibration is None else calibration.data
    errors.print(f"[dim]on {origin}; calibrate on your own with --prompts[/]", soft_wrap=True)


def _print_run(name: str, run: CalibrationRun, request: CalibrationRequest) -> None:
    output.print(headline(request.target, name, run.threshold), soft_wrap=True)
    output.print(f"on {run.data}", markup=False, soft_wrap=True)
    print_result(run.result, output)
    rounded = float((run.traffic.scores >= round(run.threshold, 5)).mean())
    _note(rounding_note(run.threshold, run.result.share.value, rounded))
    if run.prices is not None:
        output.print(f"prices: {run.prices.describe()}", markup=False, soft_wrap=True)
    if run.traffic.without_text:
        _note(
            f"{run.traffic.without_text:,} rows without text were left out; the selector's no_prompt_tier takes such "
            "ones"
        )
    if request.curve:
        print_curve(run.curve(), output)
    if request.save is not None:
        run.save(request.save)
        output.print(f"saved to {request.save}", markup=False, soft_wrap=True)


def generate_scores(request: CalibrationRequest, destination: Path) -> None:
    """Score a data set with every router and write one JSON object a prompt, router name to score.

    The file is what ``--thresholds`` reads.
    """
    source = request.source
    total = source.count()
    columns: dict[str, FloatArray] = {}
    for name in request.routers:
        router = load_router(name, request.settings.router_options(name))
        with _progress(f"Scoring with {name}", total) as report:
            columns[name] = score_traffic(
                router, source, cache=request.cache, batch_size=request.batch_size, on_progress=report
            ).scores
    with destination.open("w", encoding="utf-8") as file:
        for row in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
    output.print(f"scores of {total:,} prompts in {destination}; read them with --thresholds", soft_wrap=True)


def _note(text: str | None) -> None:
    if text:
        errors.print(f"[yellow]note:[/] {text}", soft_wrap=True)


@contextmanager
def _progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)
    with shown as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, advance=done)
