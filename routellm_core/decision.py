"""From a score to a decision: ``score >= threshold`` means strong, everywhere, ties included.

Here too: what a threshold may be, and what ``model=`` of a call may ask for. ``router-[name]-[threshold]``, as in
``router-mf-0.116`` or ``router-mf-50%``, names a router and a threshold; ``auto`` the defaults; ``strong``, ``weak`` or
a model's own name a model, unscored.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from routellm_core.errors import InvalidThresholdError, RoutingError
from routellm_core.types import Ladder, RoutingDecision, Tier


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
    try:
        value = math.nan if isinstance(threshold, bool) else float(threshold)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value <= 1.0:
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
    score: float,
    threshold: float | Sequence[float],
    ladder: Ladder,
    *,
    router: str,
    latency_seconds: float = 0.0,
) -> RoutingDecision:
    """Compare a score with a threshold: the model is the strongest one whose threshold the score reaches.

    Args:
        score: P(strong model strictly beats weak model), in [0, 1].
        threshold: in [0, 1]. 0 is all strong; 1 sends to strong only what scores exactly 1. A ladder of k models takes
            k − 1 of them, rising.
        ladder: the models; a :class:`~routellm_core.types.ModelPair` is the ladder of two.
        router: the name of the router that scored.
        latency_seconds: the time that scoring took.
    """
    thresholds = threshold if isinstance(threshold, Sequence) else (threshold,)
    rung = bisect_right(thresholds, score)
    compared = thresholds[max(rung - 1, 0)]
    relation = "reaches" if rung else "is below"
    tier = ladder.tiers[rung]
    return RoutingDecision(
        tier=tier,
        model=ladder.of(tier),
        score=score,
        threshold=compared,
        router=router,
        reason=f"score {score:.3f} {relation} the threshold {compared:g}",
        latency_seconds=latency_seconds,
    )


# The router's own name may hold hyphens, and so may the threshold: a sign, or an exponent as in 1e-05.
_PATTERN = re.compile(r"router-(?P<router>.+?)-(?P<threshold>-?(?:[\d.]+[eE]-)?[^-]+)")


@dataclass(frozen=True, slots=True)
class ModelWish:
    """What ``model=`` of one call asks for; None in every field wishes for nothing.

    Attributes:
        force: the tier to take unscored.
        router: the router to ask.
        threshold: the threshold of this call.
    """

    force: Tier | None = None
    router: str | None = None
    threshold: float | StrongShare | None = None


def parse_model_name(model: str) -> ModelWish:
    """Parse ``router-[name]-[threshold]``.

    Raises:
        RoutingError: the name is not of this form.
        InvalidThresholdError: its last part is neither a number in [0, 1] nor a percentage.
    """
    match = _PATTERN.fullmatch(model) if isinstance(model, str) else None
    if match is None:
        raise RoutingError(
            f"invalid model {model!r}: expected 'router-[router name]-[threshold]', for example 'router-mf-0.116'"
        )
    return ModelWish(router=match["router"], threshold=parse_threshold(match["threshold"]))


def format_model_name(router: str, threshold: float | str | StrongShare) -> str:
    """Write the name that :func:`parse_model_name` reads back to the same values."""
    parsed = parse_threshold(threshold)
    return f"router-{router}-{parsed if isinstance(parsed, StrongShare) else repr(parsed)}"


def requested_model(model: Any, ladder: Ladder) -> ModelWish:
    """Return what ``model=`` asks for, by the same rules at every door of the library.

    Args:
        model: None or ``"auto"``; a tier (``"strong"``, ``"weak"``) or the name of a model of the ladder; or
            ``"router-mf-0.3"``. Where two tiers have one model's name, the name alone means the stronger.
        ladder: the models that answer.

    Raises:
        RoutingError: none of these.
        InvalidThresholdError: a ``router-…`` name with a threshold out of range.
    """
    if model is None or model == "auto":
        return ModelWish()
    for tier in reversed(ladder.tiers):
        if model == tier or model == ladder.of(tier):
            return ModelWish(force=tier)
    if isinstance(model, str) and _PATTERN.fullmatch(model):
        return parse_model_name(model)
    tiers = ", ".join(f"{tier!r} or {ladder.of(tier)!r}" for tier in reversed(ladder.tiers))
    raise RoutingError(
        f"invalid model {model!r}: it is none of the models here; allowed: 'auto', {tiers}, or "
        "'router-[router name]-[threshold]', for example 'router-mf-0.116'"
    )
