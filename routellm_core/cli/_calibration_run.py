"""One run of ``routellm calibrate``: for each router, from a target to a threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from routellm_core._publish import check_writable_file, publish_file
from routellm_core.calibration import (
    CalibratedThreshold,
    Calibration,
    Target,
    calibrate_cost,
    calibrate_quality,
    calibrate_share,
    calibrations_by_router,
    resolve_threshold,
    share_at_threshold,
    share_curve,
)
from routellm_core.cli._calibration_report import headline, print_curve, print_result, rounding_note
from routellm_core.cli._calibration_traffic import PromptSource, TokenPrices, Traffic, score_traffic
from routellm_core.cli._console import errors, note, output
from routellm_core.config import RouteLLMConfig
from routellm_core.decision import StrongShare
from routellm_core.errors import ConfigError
from routellm_core.evals.score_cache import ScoreCache
from routellm_core.pricing import Price, parse_price, price_of
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router, router_class
from routellm_core.types import FloatArray, Tier

__all__ = ["PUBLISHED_THRESHOLDS", "CalibrationRequest", "calibrate_routers", "generate_scores"]

PUBLISHED_THRESHOLDS = "routellm/lmsys-arena-human-preference-55k-thresholds"
"""RouteLLM's scores of its published checkpoints on Chatbot Arena prompts, one column per router."""
_PUBLISHED_OWNER = "routellm/"


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
            raise ConfigError(f"--{_OPTIONS[request.target.kind]} needs --prompts: {_NEEDS[request.target.kind]}")
        for name in request.routers:
            _print_without_prompts(name, request)
        return
    if request.save is not None:
        check_writable_file(request.save)
    source = PromptSource.open(request.prompts, column=request.column, first_turn=request.first_turn)
    prices = _prices(request)
    total = sum(1 for _ in source.records())  # also finds a broken row before any work is done
    for name in request.routers:
        router = load_router(name, request.settings.router_options(name))
        with _progress(f"Scoring with {name}", total) as report:
            traffic = score_traffic(
                router,
                source,
                prices=prices,
                cache=request.cache,
                batch_size=request.batch_size,
                on_progress=report,
            )
        _print_with_prompts(name, router, traffic, source, request)


_OPTIONS = {"cost": "max-cost", "quality": "min-quality"}
_NEEDS = {
    "cost": "what a threshold costs depends on the prompts that it sends to the strong model",
    "quality": "rows with the quality of both models, in columns 'strong' and 'weak'",
}


def _print_without_prompts(name: str, request: CalibrationRequest) -> None:
    share, options = request.target.value, request.settings.router_options(name)
    thresholds = request.thresholds or (PUBLISHED_THRESHOLDS if _is_published(name, options) else None)
    if thresholds is not None:
        threshold = _published_threshold(name, thresholds, share)
        output.print(headline(request.target, name, threshold), soft_wrap=True)
        errors.print(f"on the scores in {thresholds}; calibrate on your own prompts with --prompts", soft_wrap=True)
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
    errors.print(f"on {origin}; calibrate on your own with --prompts", soft_wrap=True)


def _is_published(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a router is configured as RouteLLM published it, found out without loading gigabytes of weights."""
    if "strong_model" in options or "weak_model" in options:
        return False
    default = signature(router_class(name)).parameters.get("checkpoint_path")
    named = [options.get("checkpoint_path", default.default if default else None)]
    named += options.get("arena_battle_datasets") or []
    return any(isinstance(item, str) and item.startswith(_PUBLISHED_OWNER) for item in named)


def _published_threshold(name: str, source: str, share: float) -> float:
    """Return the quantile of published scores that RouteLLM would take, interpolated linearly."""
    from routellm_core.rows.files import column_batches, resolve_dataset

    scores: list[FloatArray] = []
    for file in resolve_dataset(source):
        for batch in column_batches(file, [name]):
            if name not in batch:
                raise ConfigError(f"{file.name} has no column {name!r} with the router's scores")
            scores.append(np.asarray(batch[name], dtype=np.float64))
    values = np.concatenate([np.empty(0), *scores])
    if not len(values) or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ConfigError(f"{source}: column {name!r} must hold scores in [0, 1]")
    return float(np.quantile(values, 1.0 - share))


def _print_with_prompts(
    name: str, router: Router, traffic: Traffic, source: PromptSource, request: CalibrationRequest
) -> None:
    result = _calibrated(traffic, request)
    threshold = result.threshold.value
    output.print(headline(request.target, name, threshold), soft_wrap=True)
    data = source.describe(len(traffic.scores))
    output.print(f"on {data}", markup=False, soft_wrap=True)
    print_result(result, output)
    rounded = float((traffic.scores >= round(threshold, 5)).mean())
    _note(rounding_note(threshold, result.share.value, rounded))
    if traffic.without_text:
        _note(
            f"{traffic.without_text:,} rows without text were left out; the selector's no_prompt_tier takes such ones"
        )
    if request.curve:
        options: dict[str, Any] = {"evaluation_size": request.evaluation_size, "level": request.level}
        print_curve(share_curve(traffic.scores, costs=traffic.costs, quality=traffic.quality, **options), output)
    if request.save is not None:
        Calibration.of(router, traffic.scores, data=data, result=result).save(request.save)
        output.print(f"saved to {request.save}", markup=False, soft_wrap=True)


def _calibrated(traffic: Traffic, request: CalibrationRequest) -> CalibratedThreshold:
    target = request.target
    options: dict[str, Any] = {"evaluation_size": request.evaluation_size, "level": request.level}
    if target.kind == "cost":
        if traffic.costs is None:
            raise ConfigError(
                "--max-cost needs prices: give --strong-price and --weak-price in dollars per million input,output "
                "tokens (such as 10,30), or models that the price map knows"
            )
        return calibrate_cost(traffic.scores, traffic.costs, target.value, quality=traffic.quality, **options)
    if target.kind == "quality":
        if traffic.quality is None:
            raise ConfigError(f"--min-quality needs {_NEEDS['quality']}")
        return calibrate_quality(traffic.scores, traffic.quality, target.value, costs=traffic.costs, **options)
    return calibrate_share(traffic.scores, target.value, costs=traffic.costs, quality=traffic.quality, **options)


def _prices(request: CalibrationRequest) -> TokenPrices | None:
    models = request.settings.models
    given: dict[Tier, str | None] = {"strong": request.strong_price, "weak": request.weak_price}
    prices: dict[Tier, Price | None] = {
        tier: parse_price(text) if text else price_of(getattr(models, tier)) for tier, text in given.items()
    }
    strong, weak = prices["strong"], prices["weak"]
    return TokenPrices(strong, weak, request.output_tokens) if strong and weak else None


def generate_scores(request: CalibrationRequest, destination: Path) -> None:
    """Score a data set with every router and write one JSON object a prompt, router name to score.

    The file is what ``--thresholds`` reads.
    """
    if request.prompts is None:
        raise ConfigError("generating scores needs a data set")
    check_writable_file(destination)
    source = PromptSource.open(request.prompts, column=request.column, first_turn=request.first_turn)
    total = sum(1 for _ in source.records())
    columns: dict[str, FloatArray] = {}
    for name in request.routers:
        router = load_router(name, request.settings.router_options(name))
        with _progress(f"Scoring with {name}", total) as report:
            columns[name] = score_traffic(
                router,
                source,
                prices=None,
                cache=request.cache,
                batch_size=request.batch_size,
                on_progress=report,
            ).scores
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    publish_file(destination, "".join(json.dumps(row) + "\n" for row in rows))
    output.print(f"scores of {total:,} prompts in {destination}; read them with --thresholds", soft_wrap=True)


def _note(text: str | None) -> None:
    if text:
        note(text)


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)
    with shown as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, advance=done)
