"""Calibration to a share of strong calls, and the curve of all shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routellm_core.calibration.curves import PromptCosts, PromptQuality
from routellm_core.calibration.intervals import threshold_estimate
from routellm_core.calibration.results import DEFAULT_LEVEL, CalibratedThreshold, CurvePoint, Target
from routellm_core.calibration.sample import Sample
from routellm_core.decision import StrongShare

__all__ = ["CURVE_SHARES", "calibrate_share", "share_curve"]

CURVE_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MISSED = 0.01


def calibrate_share(
    scores: npt.ArrayLike,
    share: float,
    *,
    costs: PromptCosts | None = None,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
) -> CalibratedThreshold:
    """Find the threshold that sends a share of prompts to the strong model.

    The share on the calibration data is as near to the wanted one as tied scores allow; of two that are equally near,
    the greater is taken.

    Args:
        scores: of n prompts of the traffic to be routed, shape (n,), each in [0, 1].
        share: of strong calls, in [0, 1].
        costs: dollars per prompt and model, to tell what the share costs.
        quality: labelled rows, to tell how good it is.
        evaluation_size: number m of further prompts that the intervals speak of; None takes n, infinity the long run.
        level: probability of the intervals.

    Raises:
        InvalidThresholdError: a share outside [0, 1].
        CalibrationError: no scores, columns of different lengths, or a value out of its range.
    """
    wanted = StrongShare(share).share
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    ranked = sample.ranked
    cut = ranked.nearest_cut(wanted)
    warnings: tuple[str, ...] = ()
    # A few prompts can never make every share; that is for the other warning to say.
    if abs(cut / sample.size - wanted) > max(_MISSED, 1.0 / sample.size):
        warnings = (ranked.describe_ties(wanted),)
    return sample.result(Target("share", wanted), cut, threshold_estimate(ranked, cut, level), warnings)


def share_curve(
    scores: npt.ArrayLike,
    shares: Sequence[float] = CURVE_SHARES,
    *,
    costs: PromptCosts | None = None,
    quality: PromptQuality | None = None,
    evaluation_size: float | None = None,
    level: float = DEFAULT_LEVEL,
) -> list[CurvePoint]:
    """Return what each share takes and gives; the arguments are those of :func:`calibrate_share`.

    Returns:
        one point for each share that can be reached and is nearest to one of ``shares``, ascending.
    """
    sample = Sample(scores, costs=costs, quality=quality, evaluation_size=evaluation_size, level=level)
    cuts = np.unique([sample.ranked.nearest_cut(StrongShare(share).share) for share in shares]).astype(np.intp)
    measured = sample.measure(cuts)
    return [
        CurvePoint(sample.ranked.threshold_at(int(cut)), *figures) for cut, figures in zip(cuts, measured, strict=True)
    ]
