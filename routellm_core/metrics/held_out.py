"""Whether a trained router beats others on rows that it was fitted without, with an interval for each difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.metrics.curves import PAPER_SHARES, apgr, curve_of_rows, threshold_rows
from routellm_core.metrics.intervals import Interval, bootstrap, paired_difference, percentile_interval

__all__ = ["LENGTH", "SHIPPED", "TRAINED", "HeldOut", "compare_held_out", "length_scores"]

Floats = npt.NDArray[np.float64]
_RESAMPLES: Final = 1000
TRAINED: Final = "trained"
SHIPPED: Final = "shipped"
LENGTH: Final = "prompt length"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a router was fitted without, and how it and others score them.

    Attributes:
        how: how they were held out, in words.
        scores: name of a router to its scores, shape (n,); the trained one comes first.
        expected_gain: shape (n,), above zero where the trained router expects the strong model to be better.
        strong, weak: shape (n,), quality of both models.
        models: their names.
    """

    how: str
    scores: Mapping[str, Floats]
    expected_gain: Floats
    strong: Floats
    weak: Floats
    models: tuple[str, str]


def length_scores(prompts: Sequence[str]) -> Floats:
    """Return the length-only router's scores, shape (n,): rising with the number of characters, below 1."""
    lengths = np.log1p(np.array([len(prompt) for prompt in prompts], dtype=np.float64))
    return np.asarray(lengths / (1.0 + lengths))


def compare_held_out(held_out: HeldOut, *, resamples: int = _RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Measure every router on the held-out rows (all rows count alike, whatever their training weight).

    Returns:
        JSON-ready: ``apgr`` by router, ``lead`` of the first router over each other one, ``best_single`` (the quality
        of "strong where a gain is expected" minus the better single model's), each with a 95 % paired bootstrap
        interval, and ``verdicts`` in words.
    """
    strong, weak = held_out.strong, held_out.weak
    samples = {
        name: bootstrap(scores, strong, weak, shares=PAPER_SHARES, resamples=resamples, seed=seed)
        for name, scores in held_out.scores.items()
    }
    values = {name: _apgr(scores, strong, weak) for name, scores in held_out.scores.items()}
    first = next(iter(values))
    figures = {name: _figure(value, samples[name].interval("apgr")) for name, value in values.items()}
    lead = {
        name: _figure(values[first] - value, paired_difference(samples[first], samples[name], "apgr"))
        for name, value in values.items()
        if name != first
    }
    single = _best_single(held_out, resamples, seed)
    verdicts = [_verdict(f"the router {name!r}" if name == "shipped" else name, row) for name, row in lead.items()]
    verdicts.append(_verdict(f"calling {single['model']} alone", single))
    return {
        "how": held_out.how,
        "rows": len(strong),
        "apgr": figures,
        "lead": lead,
        "best_single": single,
        "verdicts": verdicts,
    }


def _apgr(scores: Floats, strong: Floats, weak: Floats) -> float:
    curve = curve_of_rows(threshold_rows(scores, strong, weak))
    return apgr(curve, float(weak.mean()), float(strong.mean()))


def _best_single(held_out: HeldOut, resamples: int, seed: int) -> dict[str, Any]:
    chosen = held_out.expected_gain > 0.0
    routed = np.where(chosen, held_out.strong, held_out.weak)
    qualities = (float(held_out.strong.mean()), float(held_out.weak.mean()))
    best = int(np.argmax(qualities))
    difference = routed - (held_out.strong, held_out.weak)[best]
    generator = np.random.default_rng(seed)
    n = len(difference)
    means = np.array([difference[generator.integers(0, n, size=n)].mean() for _ in range(resamples)])
    return {
        "model": held_out.models[best],
        "quality": round(qualities[best], 4),
        "strong_share": round(float(chosen.mean()), 4),
        **_figure(float(difference.mean()), percentile_interval(means, 0.95)),
    }


def _figure(value: float, interval: Interval) -> dict[str, float]:
    return {"value": round(value, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def _verdict(other: str, row: dict[str, Any]) -> str:
    between = f"{row['value']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
    unit = "quality, strong where a gain is expected" if "model" in row else "APGR"
    if row["low"] > 0.0:
        return f"- Better than {other} ({unit} {between})."
    if row["high"] < 0.0:
        return f"- Worse than {other} ({unit} {between})."
    return f"- Not distinguishable from {other} ({unit} {between})."
