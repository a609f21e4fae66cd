"""From a score to a decision: ``score >= threshold`` means strong, everywhere, ties included."""

from __future__ import annotations

import math
from typing import Any

from routellm_core.errors import InvalidThresholdError
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["decide", "validate_threshold"]


def validate_threshold(threshold: Any) -> float:
    """Return ``threshold`` as a float in [0, 1].

    Numbers and numeric strings (from a command line, a model name or an environment variable) are accepted.

    Raises:
        InvalidThresholdError: not a number, NaN, or outside [0, 1].
    """
    allowed = "a threshold is a number in [0, 1]: 0 sends every prompt to the strong model, 1 almost none"
    if isinstance(threshold, bool):
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}")
    try:
        value = float(threshold)
    except (TypeError, ValueError) as error:
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}") from error
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}")
    return value


def decide(
    score: float, threshold: float, pair: ModelPair, *, router: str, latency_seconds: float = 0.0
) -> RoutingDecision:
    """Compare a score with a threshold.

    Args:
        score: P(strong model strictly beats weak model), in [0, 1].
        threshold: in [0, 1]. 0 is all strong; 1 sends to strong only what scores exactly 1.
        pair: the two models.
        router: the name of the router that scored.
        latency_seconds: the time that scoring took.
    """
    is_strong = score >= threshold
    tier: Tier = "strong" if is_strong else "weak"
    relation = "reaches" if is_strong else "is below"
    return RoutingDecision(
        tier=tier,
        model=pair.of(tier),
        score=score,
        threshold=threshold,
        router=router,
        reason=f"score {score:.3f} {relation} the threshold {threshold:g}",
        latency_seconds=latency_seconds,
    )
