"""What ``routellm calibrate`` and RouteLLM's command do for each router: score, find the threshold, print it.

Without prompts, thresholds also come from scores that somebody published, as RouteLLM's script takes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from routellm_core._publish import check_writable_file, publish_file
from routellm_core.calibration import (
    CalibratedThreshold,
    CalibrationRun,
    CurvePoint,
    Estimate,
    PromptSource,
    Target,
    calibrations_by_router,
    resolve_threshold,
    score_traffic,
    share_at_threshold,
)
from routellm_core.cli._console import errors, note, output, progress_bar, say
from routellm_core.config import RouteLLMConfig
from routellm_core.decision import StrongShare
from routellm_core.errors import ConfigError
from routellm_core.routers.registry import load_router, router_class
from routellm_core.rows.sources import RowSource, hub_or_path
from routellm_core.score_cache import ScoreCache

_DIGITS = 5


def print_without_prompts(settings: RouteLLMConfig, name: str, share: float, thresholds: str | None) -> None:
    """Print a router's threshold for a share of published scores, of its calibration, or of its reference traffic.

    ``thresholds`` is a file or data set with published scores; None takes RouteLLM's for what RouteLLM published.
    """
    options = settings.router_options(name)
    target = Target("share", share)
    thresholds = thresholds or (PUBLISHED_THRESHOLDS if _is_published(name, options) else None)
    if thresholds is not None:
        output.print(_headline(target, name, _published_threshold(name, thresholds, share)), soft_wrap=True)
        _origin(f"the scores in {thresholds}")
        return
    router = load_router(name, options)
    calibration = calibrations_by_router(settings.calibration, {name: router}).get(name)
    threshold = resolve_threshold(StrongShare(share), router, calibration)
    output.print(_headline(target, name, threshold), soft_wrap=True)
    quantiles = router.reference_quantiles if calibration is None else calibration.quantiles
    if quantiles is not None:
        rounded = share_at_threshold(quantiles, round(threshold, 5))
        _note_rounding(threshold, share_at_threshold(quantiles, threshold), rounded)
    _origin("the checkpoint's reference traffic" if calibration is None else calibration.data)


def print_run(run: CalibrationRun, *, curve: bool) -> None:
    """Print a calibration: RouteLLM's line, the figures with their intervals, and the share curve if it is wanted."""
    output.print(_headline(run.result.target, run.router.name, run.threshold), soft_wrap=True)
    output.print(f"on {run.data}", markup=False, soft_wrap=True)
    _print_result(run.result)
    if run.prices is not None:
        output.print(f"prices: {run.prices.describe()}", markup=False, soft_wrap=True)
    rounded = float((run.traffic.scores >= round(run.threshold, 5)).mean())
    _note_rounding(run.threshold, run.result.share.value, rounded)
    if left_out := run.traffic.without_text:
        note(f"{left_out:,} rows without text were left out; the selector's no_prompt_tier takes such ones")
    if curve:
        _print_curve(run.curve())


def generate_scores(settings: RouteLLMConfig, routers: Sequence[str], source: PromptSource, destination: Path) -> None:
    """Score a data set with every router and write one JSON object a prompt, router name to score.

    The file is what ``--thresholds`` reads.
    """
    check_writable_file(destination)
    columns = {}
    total = source.count()
    for name in routers:
        router = load_router(name, settings.router_options(name))
        with progress_bar(f"Scoring with {name}", total) as report:
            columns[name] = score_traffic(router, source, cache=ScoreCache(), on_progress=report).scores
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    publish_file(destination, "".join(json.dumps(row) + "\n" for row in rows))
    output.print(f"scores of {total:,} prompts in {destination}; read them with --thresholds", soft_wrap=True)


def _origin(data: str) -> None:
    errors.print(f"on {data}; calibrate on your own prompts with --prompts", soft_wrap=True)


def _headline(target: Target, router: str, threshold: float) -> str:
    """Return the line that RouteLLM prints, for a share as there."""
    asked = {
        "share": f"{round(target.value * 100, 10)}% strong model calls",
        "cost": f"at most ${target.value:.2f} per 1,000 requests",
        "quality": f"at least {round(target.value * 100, 10)}% of the strong model's quality",
    }[target.kind]
    return f"For {asked} for {router}, threshold = {threshold:.{_DIGITS}f}"


def _note_rounding(threshold: float, share: float, share_when_rounded: float) -> None:
    """Say so where the rounded threshold of the headline routes another share."""
    if abs(share - share_when_rounded) < 0.001:
        return
    note(
        f"scores are dense here: rounded to {_DIGITS} decimals the threshold makes {share_when_rounded:.1%} strong "
        f"calls, in full ({threshold!r}) it makes {share:.1%}"
    )


def _print_result(result: CalibratedThreshold) -> None:
    """Print every figure of a calibration with its interval, and its warnings."""
    further = f"the next {result.evaluation_size:,}" if result.evaluation_size else "the long run"
    table = Table("", "calibrated", f"{result.level:.0%} interval", "of", box=None, pad_edge=False)
    table.add_row(
        "threshold", f"{result.threshold.value:.{_DIGITS}f}", _between(result.threshold, ".5f"), "another sample"
    )
    table.add_row("strong calls", f"{result.share.value:.1%}", _between(result.share, ".1%"), further)
    if result.cost is not None:
        table.add_row("$ per 1,000 requests", f"{result.cost.value:#.4g}", _between(result.cost, "#.4g"), further)
    if result.quality is not None:
        table.add_row(
            "quality of the strong model's", f"{result.quality.value:.1%}", _between(result.quality, ".1%"), further
        )
    output.print(table)
    if result.padding is not None:
        output.print(result.padding, soft_wrap=True, highlight=False)
    for warning in result.warnings:
        say("yellow", "note:", warning, console=output)


def _print_curve(points: Sequence[CurvePoint]) -> None:
    """Print what each share takes and gives."""
    if not points:
        return
    table = Table("strong calls", "threshold", title="Share curve", title_justify="left", box=None, pad_edge=False)
    if points[0].cost is not None:
        table.add_column("$ per 1,000")
    if points[0].quality is not None:
        table.add_column("quality of strong's")
    for point in points:
        figures = [f"{point.share.value:.1%}", f"{point.threshold:.{_DIGITS}f}"]
        if point.cost is not None:
            figures.append(f"{point.cost.value:#.4g}")
        if point.quality is not None:
            figures.append(f"{point.quality.value:.1%} ({_between(point.quality, '.1%')})")
        table.add_row(*figures)
    output.print(table)


def _between(estimate: Estimate, form: str) -> str:
    return f"{estimate.low:{form}} – {estimate.high:{form}}"


PUBLISHED_THRESHOLDS = "routellm/lmsys-arena-human-preference-55k-thresholds"
"""RouteLLM's scores of its published checkpoints on Chatbot Arena prompts, one column per router."""
_PUBLISHED_OWNER = "routellm/"


def _is_published(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a router is configured as RouteLLM published it, found out without loading gigabytes of weights."""
    if "strong_model" in options or "weak_model" in options:
        return False
    default = signature(router_class(name)).parameters.get("checkpoint_path")
    named = [options.get("checkpoint_path", default.default if default else None)]
    named += options.get("arena_battle_datasets") or []
    return any(isinstance(item, str) and item.startswith(_PUBLISHED_OWNER) for item in named)


def _published_threshold(name: str, source: str, share: float) -> float:
    """Return the quantile of published scores that RouteLLM would take, interpolated linearly.

    ``source`` is a file or a data set on the Hub, ``owner/name``, with a column of scores per router.

    Raises:
        ConfigError: the source cannot be read, or has no such column of numbers in [0, 1].
    """
    rows = RowSource.parse(hub_or_path(source))
    scores = []
    for place, row in rows.rows([name]):
        if not isinstance(row, Mapping) or name not in row:
            raise ConfigError(f"{place}: no column {name!r} with the router's scores")
        try:
            scores.append(float(row[name]))
        except (TypeError, ValueError):
            scores.append(float("nan"))
    values = np.array(scores)
    if not len(values) or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ConfigError(f"{rows.name}: column {name!r} must hold scores in [0, 1]")
    return float(np.quantile(values, 1.0 - share))
