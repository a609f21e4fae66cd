"""Labelled examples of one program, and what follows from them: thresholds, the cost–quality curve, training rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core import ModelPair, Router
from routellm_core.calibration import (
    CalibratedThreshold,
    Calibration,
    CurvePoint,
    PromptCosts,
    PromptQuality,
    calibrate_cost,
    calibrate_quality,
    calibrate_share,
    share_curve,
)
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.types import FloatArray

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
    """A program's labelled devset. :func:`~dspy_routellm.measure` makes it.

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

    def calibration(self, result: CalibratedThreshold | None = None, *, data: str = "a DSPy devset") -> Calibration:
        """Return what ``RouteLLM(calibration=…)`` and ``Routed(calibration=…)`` take; its ``save`` writes a file.

        Args:
            result: of :meth:`calibrate`, whose threshold becomes the default.
            data: what the examples are, in one line.
        """
        return Calibration.of(self.router, self.scores, data=data, result=result)

    def adapt(self, folder: str | Path, *, start: str | Path | None = "default", seed: int = 0) -> Measurement:
        """Train an ``mf`` router on these labels, and return the measurement with that router's scores.

        Each score is by a router that was trained without its example (five-fold cross-validation), so thresholds and
        curves of the result do not flatter.

        Args:
            folder: where the checkpoint is written; ``load_router("mf", {"checkpoint_path": folder})`` reads it.
            start: the checkpoint to adapt; None trains from nothing.
            seed: of the folds.

        Raises:
            ConfigError: too few examples, or none or all of them need the strong model.
        """
        from routellm_core.routers.mf.router import MatrixFactorizationRouter
        from routellm_core.rows.labelled import PairRows
        from routellm_core.training.train_mf import Provenance, train_matrix_factorization

        rows = PairRows(
            prompts=tuple(row.prompt for row in self.rows),
            weights=np.ones(len(self.rows)),
            places=tuple(f"example {index}" for index in range(len(self.rows))),
            licences=(),
            strong=np.array([row.strong_quality for row in self.rows]),
            weak=np.array([row.weak_quality for row in self.rows]),
        )
        trained = train_matrix_factorization(
            rows,
            output=folder,
            strong_model=self.pair.strong,
            weak_model=self.pair.weak,
            start=start,
            seed=seed,
            provenance=Provenance(command="dspy_routellm.Measurement.adapt", data=("a DSPy devset and its metric",)),
        )
        scores = trained.held_out.scores["trained"]
        rescored = tuple(replace(row, score=float(score)) for row, score in zip(self.rows, scores, strict=True))
        router = MatrixFactorizationRouter(checkpoint_path=str(trained.folder))
        return replace(self, router=router, rows=rescored)

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
