"""Calibration to a budget: as many strong calls as the money allows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import REQUESTS, CostCurve, PromptCosts, PromptQuality, Weights
from routellm_core.calibration.results import DEFAULT_LEVEL, CalibratedThreshold, Target
from routellm_core.calibration.sample import CANDIDATES, Sample
from routellm_core.errors import CalibrationError

__all__ = ["calibrate_cost"]


def calibrate_cost(
    scores: npt.ArrayLike,
    costs: PromptCosts,
    max_cost: float,
    *,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
    resamples: int | None = None,
) -> CalibratedThreshold:
    """Find the lowest threshold whose cost stays within a budget, the error of both samples allowed for.

    From all weak upwards, prompts are sent to the strong model while the upper end of the cost's interval is within the
    budget; the first threshold that exceeds it ends the search. Tokens differ between prompts, so it matters which
    ones go: the costs are those of the prompts themselves.

    Args:
        scores: of n prompts of the traffic to be routed, shape (n,), each in [0, 1].
        costs: dollars per prompt and model.
        max_cost: dollars per 1,000 requests.
        quality: labelled rows, to tell how good the result is.
        evaluation_size: number m of further prompts that the budget must hold for; None takes n, infinity the long run.
        level: probability of the intervals.
        resamples: of the bootstrap of the threshold; None takes 1,000, and fewer above 20,000 prompts.

    Raises:
        CalibrationError: the budget is below what the weak model costs, or too near to it for so few rows; columns of
            different lengths, or a value out of its range.
    """
    if not (math.isfinite(max_cost) and max_cost > 0.0):
        raise CalibrationError(f"max_cost={max_cost!r} must be dollars per 1,000 requests, more than 0")
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    candidates = sample.ranked.spread_cuts(CANDIDATES)

    def choose(weights: Weights | None = None, z: float = sample.z) -> int | None:
        curve = sample.cost_curve(candidates, weights)
        within = (curve.mean + curve.margin(sample.factor, z)) * REQUESTS <= max_cost
        passed = len(within) if within.all() else int(np.argmin(within))
        return int(candidates[passed - 1]) if passed else None

    cut = choose()
    if cut is None:
        raise _too_tight(sample, sample.cost_curve(candidates[:1]), max_cost)
    threshold = sample.bootstrap(lambda weights: choose(weights) or 0, cut, resamples=resamples)
    warnings = ("the budget covers sending everything to the strong model",) if cut == sample.size else ()
    return sample.result(Target("cost", max_cost), cut, threshold, warnings, unpadded_cut=choose(z=0.0) or 0)


def _too_tight(sample: Sample, lowest: CostCurve, max_cost: float) -> CalibrationError:
    mean, deviation = float(lowest.mean[0]), math.sqrt(float(lowest.variance[0]))
    if mean * REQUESTS >= max_cost:
        return CalibrationError(
            f"a budget of ${max_cost:.4g} per 1,000 requests cannot be kept: sending everything to the weak model "
            f"already costs ${mean * REQUESTS:.4g}. Raise the budget, or choose a cheaper weak model"
        )
    rows = math.ceil(2.0 * (sample.z * deviation / (max_cost / REQUESTS - mean)) ** 2)
    margin = float(lowest.margin(sample.factor, sample.z)[0])
    return CalibrationError(
        f"{sample.size:,} rows cannot support a budget of ${max_cost:.4g} per 1,000 requests: sending everything to "
        f"the weak model costs ${mean * REQUESTS:.4g} ± {margin * REQUESTS:.2g} at a confidence of {sample.level:.0%}. "
        f"It would take about {rows:,} rows, and as many requests in use",
        rows_needed=rows,
    )
