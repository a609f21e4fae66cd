"""Calibration: from a target (share of strong calls, cost, quality) to a threshold, with intervals that can be checked.

Every interval here answers one question: with this threshold fixed, where will the figure lie on the next m prompts
from the same source? It therefore holds the sampling error of the calibration data *and* of those m prompts, and a
held-out half of the data is a fair test of it.
"""

from __future__ import annotations

from routellm_core.calibration.curves import PromptCosts, PromptQuality
from routellm_core.calibration.measured import MeasuredExample, Measurement
from routellm_core.calibration.ranking import RankedScores, score_quantiles, share_at_threshold, threshold_for_share
from routellm_core.calibration.results import CalibratedThreshold, CurvePoint, Estimate, Target
from routellm_core.calibration.run import CalibrationRun, calibrate
from routellm_core.calibration.saved import Calibration, CalibrationSource, calibrations_by_router, resolve_threshold
from routellm_core.calibration.targets import calibrate_cost, calibrate_quality, calibrate_share, share_curve
from routellm_core.calibration.traffic import PromptSource, TokenPrices, Traffic, score_traffic

__all__ = [
    "CalibratedThreshold",
    "Calibration",
    "CalibrationRun",
    "CalibrationSource",
    "CurvePoint",
    "Estimate",
    "MeasuredExample",
    "Measurement",
    "PromptCosts",
    "PromptQuality",
    "PromptSource",
    "RankedScores",
    "Target",
    "TokenPrices",
    "Traffic",
    "calibrate",
    "calibrate_cost",
    "calibrate_quality",
    "calibrate_share",
    "calibrations_by_router",
    "resolve_threshold",
    "score_quantiles",
    "score_traffic",
    "share_at_threshold",
    "share_curve",
    "threshold_for_share",
]
