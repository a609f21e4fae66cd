"""Calibration from rows to a threshold: read, score, search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routellm_core.calibration.results import DEFAULT_LEVEL, CalibratedThreshold, CurvePoint, Target
from routellm_core.calibration.saved import Calibration
from routellm_core.calibration.targets import calibrate_cost, calibrate_quality, calibrate_share, share_curve
from routellm_core.calibration.traffic import PromptSource, TokenPrices, Traffic, score_traffic
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.routers.base import Router
from routellm_core.routers.registry import load_router
from routellm_core.rows.labelled import DEFAULT_PAIR
from routellm_core.rows.sources import RowSource
from routellm_core.score_cache import ScoreCache
from routellm_core.types import ModelPair


@dataclass(frozen=True)
class CalibrationRun:
    """What :func:`calibrate` found; ``data`` says in one line what the prompts were."""

    router: Router
    traffic: Traffic
    data: str
    result: CalibratedThreshold
    prices: TokenPrices | None = None

    @property
    def threshold(self) -> float:
        """The threshold."""
        return self.result.threshold.value

    @property
    def calibration(self) -> Calibration:
        """What ``Controller(calibration=…)`` and ``ModelSelector(calibration=…)`` take."""
        return Calibration.of(self.router, self.traffic.scores, data=self.data, result=self.result)

    def save(self, path: str | Path) -> None:
        """Write :attr:`calibration`, for ``calibration:`` in the configuration file.

        Raises:
            CalibrationError: the file cannot be written.
        """
        self.calibration.save(path)

    def curve(self) -> list[CurvePoint]:
        """Return what shares of 0, 10 … 100 % take and give."""
        m = self.result.evaluation_size
        return share_curve(
            self.traffic.scores,
            costs=self.traffic.costs,
            quality=self.traffic.quality,
            evaluation_size=float("inf") if m is None else m,
            level=self.result.level,
        )


def calibrate(
    router: Router | str,
    source: Any,
    target: Target | str,
    *,
    column: str | None = None,
    first_turn: bool = False,
    pair: ModelPair | None = None,
    prices: TokenPrices | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
    batch_size: int = 512,
    cache: ScoreCache | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> CalibrationRun:
    """Find the threshold of a router for a target on one's own prompts.

    Args:
        router: the router, or its name.
        source: the prompts, with labels or without: a file, a folder, ``hf:owner/name``, a ``datasets.Dataset``, a
            frame, a list of texts, conversations or mappings; or a :class:`PromptSource`.
        target: such as ``Target("quality", 0.95)``; ``"50%"`` is a share of strong calls.
        column: the prompt's column.
        first_turn: of a conversation, route on the user's first turn instead of the last.
        pair: names of the two models, for prices and for columns called after them.
        prices: what tokens cost; the price map's for ``pair`` by default.
        evaluation_size: number m of further prompts that intervals speak of; None takes n, infinity the long run.
        level: probability of the intervals.
        batch_size: prompts per call of the router.
        cache: of scores, from which a stopped run goes on.
        on_progress: called with the number of further rows that are done.

    Raises:
        ConfigError: no prompts, rows that cannot be read, or what the target needs is missing: prices or labels.
        CalibrationError: the rows cannot support the target.
        ScoringError: the router failed.
    """
    wanted = _target(target)
    if isinstance(router, str):
        router = load_router(router)
    names = (pair.strong, pair.weak) if pair else DEFAULT_PAIR
    prompts = source
    if not isinstance(source, PromptSource):
        prompts = PromptSource(RowSource.parse(source), column, first_turn, names)
    if prices is None and pair is not None:
        prices = TokenPrices.of(pair.strong, pair.weak)
    if wanted.kind == "cost" and prices is None:
        raise ConfigError(
            "a budget needs prices: give --strong-price and --weak-price in dollars per million input,output tokens "
            "(such as 10,30), or models that the price map knows"
        )
    traffic = score_traffic(
        router,
        prompts,
        prices=prices,
        cache=cache,
        batch_size=batch_size,
        labelled=wanted.kind == "quality",
        on_progress=on_progress,
    )
    result = _search(traffic, wanted, {"evaluation_size": evaluation_size, "level": level})
    return CalibrationRun(router, traffic, prompts.describe(len(traffic.scores)), result, prices)


def _target(target: Target | str) -> Target:
    if isinstance(target, Target):
        return target
    share = parse_threshold(target)
    if not isinstance(share, StrongShare):
        raise CalibrationError(f"target {target!r} must be a share such as '50%', or a Target")
    return Target("share", share.share)


def _search(traffic: Traffic, target: Target, options: dict[str, Any]) -> CalibratedThreshold:
    if target.kind == "cost" and traffic.costs is not None:
        return calibrate_cost(traffic.scores, traffic.costs, target.value, quality=traffic.quality, **options)
    if target.kind == "quality":
        if traffic.quality is None:
            raise ConfigError("a quality needs labels, but every row's are empty")
        return calibrate_quality(traffic.scores, traffic.quality, target.value, costs=traffic.costs, **options)
    return calibrate_share(traffic.scores, target.value, costs=traffic.costs, quality=traffic.quality, **options)
