"""Examples that both models answered and a metric judged, and what follows: thresholds, the curve, training rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from routellm_core.calibration.curves import PromptCosts, PromptQuality
from routellm_core.calibration.results import CalibratedThreshold, CurvePoint
from routellm_core.calibration.saved import Calibration
from routellm_core.calibration.targets import calibrate_cost, calibrate_quality, calibrate_share, share_curve
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.routers.base import Router, checked_scores
from routellm_core.types import FloatArray, ModelPair

__all__ = ["MeasuredExample", "Measurement"]


@dataclass(frozen=True, slots=True)
class MeasuredExample:
    """One example, run with both models.

    Attributes:
        prompt: the text that it is routed on.
        score: the router's, P(strong strictly beats weak), in [0, 1].
        strong_quality: the metric's score of the strong model's prediction.
        weak_quality: of the weak model's.
        strong_dollars: what the strong run cost, where the price is known.
        weak_dollars: what the weak run cost.
    """

    prompt: str
    score: float
    strong_quality: float
    weak_quality: float
    strong_dollars: float | None = None
    weak_dollars: float | None = None

    @property
    def strong_wins(self) -> bool:
        """The label: whether the strong model was strictly better."""
        return self.strong_quality > self.weak_quality


@dataclass(frozen=True)
class Measurement:
    """A program's labelled examples, whatever ran it: ``dspy_routellm.measure``, a chain, a query engine.

    Attributes:
        router: whose scores the rows hold.
        pair: the two models.
        rows: one per example, in the devset's order.
        failures: runs per tier in which the program or the metric raised.
    """

    router: Router
    pair: ModelPair
    rows: tuple[MeasuredExample, ...]
    failures: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        router: Router,
        pair: ModelPair,
        prompts: Sequence[str],
        *,
        strong_quality: Sequence[float],
        weak_quality: Sequence[float],
        strong_dollars: Sequence[float | None] | None = None,
        weak_dollars: Sequence[float | None] | None = None,
        failures: Mapping[str, int] | None = None,
    ) -> Self:
        """Score the prompts, and put them together with what the two models made of them.

        Args:
            router: scores the prompts.
            pair: the two models.
            prompts: the texts that are routed on, n.
            strong_quality: the metric's scores of the strong model's answers, n; greater is better.
            weak_quality: of the weak model's.
            strong_dollars: what the strong answers cost, n, where that is known.
            weak_dollars: what the weak ones cost.
            failures: runs per tier that failed.

        Raises:
            ConfigError: there are no prompts.
            ScoringError: the router cannot score.
            ValueError: the lengths differ.
        """
        if not prompts:
            raise ConfigError("there are no examples; calibration takes a few dozen at least")
        unknown: list[float | None] = [None] * len(prompts)
        columns = (strong_quality, weak_quality, strong_dollars or unknown, weak_dollars or unknown)
        scores = checked_scores(router, list(prompts))
        rows = (MeasuredExample(*row) for row in zip(prompts, map(float, scores), *columns, strict=True))
        return cls(router, pair, tuple(rows), failures or {})

    @property
    def scores(self) -> FloatArray:
        """The router's scores, shape (n,)."""
        return np.array([row.score for row in self.rows])

    @property
    def strong_quality(self) -> float:
        """Mean metric of the strong model alone."""
        return float(np.mean([row.strong_quality for row in self.rows]))

    @property
    def weak_quality(self) -> float:
        """Mean metric of the weak model alone."""
        return float(np.mean([row.weak_quality for row in self.rows]))

    @property
    def oracle_quality(self) -> float:
        """Mean metric of whichever model was better: what a perfect router would reach."""
        return float(np.mean([max(row.strong_quality, row.weak_quality) for row in self.rows]))

    def quality_at(self, threshold: float) -> float:
        """Return the mean metric with ``threshold`` in [0, 1] on these examples."""
        return float(np.mean([row.strong_quality if row.score >= threshold else row.weak_quality for row in self.rows]))

    def calibrate(
        self,
        *,
        quality: float | None = None,
        strong_share: float | None = None,
        max_cost: float | None = None,
        level: float = 0.99,
        evaluation_size: float | None = None,
    ) -> CalibratedThreshold:
        """Return the threshold for one target, with intervals for further inputs of the same kind.

        Args:
            quality: the lowest fraction in (0, 1] of the strong model's mean metric to keep; the highest threshold
                that surely keeps it.
            strong_share: the share in [0, 1] of runs for the strong model.
            max_cost: dollars per 1,000 runs.
            level: the probability that each interval covers.
            evaluation_size: further runs that the intervals speak of; None takes as many as measured.

        Raises:
            ConfigError: not exactly one target.
            CalibrationError: the examples cannot support the target (``rows_needed`` says how many would), or costs
                are needed and not known.
        """
        targets = {"quality": quality, "strong_share": strong_share, "max_cost": max_cost}
        given = {name: value for name, value in targets.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(f"give exactly one target of quality, strong_share and max_cost; got {given or 'none'}")
        options: dict[str, Any] = {"level": level, "evaluation_size": evaluation_size}
        if quality is not None:
            return calibrate_quality(self.scores, self._quality, quality, costs=self.costs, **options)
        if strong_share is not None:
            return calibrate_share(
                self.scores, strong_share, costs=self.costs, quality=self._quality_or_none, **options
            )
        if self.costs is None:
            raise CalibrationError(
                "what the runs cost is not known: give the models' prices in their settings "
                "(input_cost_per_token, output_cost_per_token)"
            )
        return calibrate_cost(self.scores, self.costs, float(max_cost), quality=self._quality_or_none, **options)  # type: ignore[arg-type]

    def best(self, *, tolerance: float = 0.0) -> float:
        """Return the highest threshold whose mean metric on these very examples is the best, or nearly.

        For a first look: it was chosen on the examples it is measured on, so it flatters. :meth:`calibrate` does not.

        Args:
            tolerance: how far below the best the mean metric may be.
        """
        # Just above each score the prompts with that score go weak; 0 sends everything to the strong model.
        candidates = [0.0, *(min(float(np.nextafter(score, 2.0)), 1.0) for score in np.unique(self.scores))]
        qualities = [self.quality_at(candidate) for candidate in candidates]
        enough = [c for c, q in zip(candidates, qualities, strict=True) if q >= max(qualities) - tolerance - 1e-12]
        return max(enough)

    def curve(self, *, level: float = 0.99) -> list[CurvePoint]:
        """Return share, cost and quality at thresholds from all weak to all strong, with intervals."""
        return share_curve(self.scores, costs=self.costs, quality=self._quality_or_none, level=level)

    def calibration(self, result: CalibratedThreshold | None = None, *, data: str = "measured examples") -> Calibration:
        """Return what ``RouteLLM(calibration=…)`` and ``Routed(calibration=…)`` take; its ``save`` writes a file.

        Args:
            result: of :meth:`calibrate`, whose threshold becomes the default.
            data: what the examples are, in one line.
        """
        return Calibration.of(self.router, self.scores, data=data, result=result)

    def save_rows(self, path: str | Path) -> None:
        """Write the labelled rows as JSON Lines, as ``routellm train`` reads them, with scores and costs beside.

        Raises:
            ConfigError: the file cannot be written.
        """
        records = [
            {
                "prompt": row.prompt,
                "strong": row.strong_quality,
                "weak": row.weak_quality,
                "router_score": row.score,
                "strong_dollars": row.strong_dollars,
                "weak_dollars": row.weak_dollars,
            }
            for row in self.rows
        ]
        try:
            Path(path).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{str(path)!r} cannot be written: {error}") from error

    @property
    def costs(self) -> PromptCosts | None:
        """Dollars per example and model, where all are known."""
        strong = [row.strong_dollars for row in self.rows]
        weak = [row.weak_dollars for row in self.rows]
        if None in strong or None in weak:
            return None
        return PromptCosts(np.array(strong, dtype=float), np.array(weak, dtype=float))

    @property
    def _quality(self) -> PromptQuality:
        strong = np.array([row.strong_quality for row in self.rows])
        return PromptQuality(strong, np.array([row.weak_quality for row in self.rows]))

    @property
    def _quality_or_none(self) -> PromptQuality | None:
        return self._quality if self.strong_quality > 0.0 else None  # a fraction of nothing has no meaning
