"""From a score to a decision: ``score >= threshold`` means strong, everywhere, ties included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from routellm_core.errors import InvalidThresholdError
from routellm_core.types import ModelPair, RoutingDecision, Tier

__all__ = ["StrongShare", "decide", "parse_threshold", "requested_threshold", "validate_threshold"]


@dataclass(frozen=True, slots=True)
class StrongShare:
    """A threshold given as the share of prompts that should go to the strong model; written ``"50%"``.

    Which score that is depends on the router and the traffic: see :func:`routellm_core.calibration.resolve_threshold`.

    Attributes:
        share: in [0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0.0 <= self.share <= 1.0:
            raise InvalidThresholdError(
                f"invalid share of strong calls {self.share!r}: it is a number in [0, 1], where 0.5 sends half of the "
                "prompts to the strong model (as a threshold, '50%')"
            )

    def __str__(self) -> str:
        # Decimal shifts the point exactly, so that the text reads back to the same float.
        return f"{(Decimal(repr(float(self.share))) * 100).normalize():f}%"


def validate_threshold(threshold: Any) -> float:
    """Return ``threshold`` as a float in [0, 1].

    Numbers and numeric strings (from a command line, a model name or an environment variable) are accepted.

    Raises:
        InvalidThresholdError: not a number, NaN, or outside [0, 1].
    """
    allowed = (
        "a threshold is a number in [0, 1] (0 sends every prompt to the strong model, 1 almost none), or a share of "
        "strong calls such as '50%'"
    )
    if isinstance(threshold, bool):
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}")
    try:
        value = float(threshold)
    except (TypeError, ValueError) as error:
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}") from error
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        raise InvalidThresholdError(f"invalid threshold {threshold!r}: {allowed}")
    return value


def parse_threshold(threshold: Any) -> float | StrongShare:
    """Return a threshold, or the share of strong calls that a text such as ``"50%"`` asks for.

    Raises:
        InvalidThresholdError: neither a number in [0, 1] nor a percentage in [0, 100].
    """
    if isinstance(threshold, StrongShare):
        return threshold
    if isinstance(threshold, str) and threshold.strip().endswith("%"):
        try:
            share = float(Decimal(threshold.strip()[:-1].strip()) / 100)
        except InvalidOperation:
            share = math.nan
        if not 0.0 <= share <= 1.0:
            raise InvalidThresholdError(
                f"invalid threshold {threshold!r}: a share of strong calls is a number from 0% to 100%, such as '50%'"
            )
        return StrongShare(share)
    return validate_threshold(threshold)


def requested_threshold(
    threshold: float | str | StrongShare | None, strong_share: float | None
) -> float | StrongShare | None:
    """Return what the two ways of saying the same amount to; None where neither was given.

    Raises:
        InvalidThresholdError: both were given, or the one that was is out of range.
    """
    if strong_share is None:
        return None if threshold is None else parse_threshold(threshold)
    if threshold is not None:
        raise InvalidThresholdError(
            f"threshold={threshold!r} and strong_share={strong_share!r} say the same in two ways; give one of them"
        )
    return StrongShare(strong_share)


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
