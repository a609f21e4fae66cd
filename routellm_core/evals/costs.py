"""Cost in dollars: tokens per prompt times prices per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routellm_core.calibration.traffic import one_price_missing
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import Benchmark
from routellm_core.metrics.curves import ThresholdRow
from routellm_core.pricing import Price, PriceMap, price_of
from routellm_core.types import FloatArray


@dataclass(frozen=True, slots=True)
class CostTable:
    """Both models' prices, dollars per prompt on each, shape (n,), and a note on how tokens were counted."""

    strong_price: Price
    weak_price: Price
    strong: FloatArray
    weak: FloatArray
    note: str

    def dollars(self, scores: FloatArray, row: ThresholdRow) -> float:
        """Return dollars per 1,000 prompts when ``scores``, shape (n,), are routed as in ``row``."""
        chosen = scores > row.threshold if row.strict else scores >= row.threshold
        return float(np.where(chosen, self.strong, self.weak).mean() * 1000.0)

    @property
    def strong_dollars(self) -> float:
        """Dollars per 1,000 prompts when everything goes to the strong model."""
        return float(self.strong.mean() * 1000.0)

    @property
    def weak_dollars(self) -> float:
        """Dollars per 1,000 prompts when everything goes to the weak model."""
        return float(self.weak.mean() * 1000.0)


def cost_table(
    benchmark: Benchmark,
    *,
    strong_price: Price | None = None,
    weak_price: Price | None = None,
    prices: PriceMap | None = None,
) -> CostTable | None:
    """Return what each prompt costs on each model, or None where tokens or prices are not known.

    Given prices take the place of those in the price map, which is litellm's installed one by default.

    Raises:
        ConfigError: a price was given, but costs cannot be told: the other price or the tokens are not known.
    """
    usage, given = benchmark.usage, bool(strong_price or weak_price)
    strong_price = strong_price or price_of(benchmark.pair.strong, prices)
    weak_price = weak_price or price_of(benchmark.pair.weak, prices)
    if strong_price is None or weak_price is None:
        if given:
            raise one_price_missing(benchmark.pair.strong if strong_price is None else benchmark.pair.weak)
        return None
    if usage is None:
        if given:
            raise ConfigError(f"prices are of no use: {benchmark.title} does not say how many tokens its prompts take")
        return None
    return CostTable(
        strong_price=strong_price,
        weak_price=weak_price,
        strong=_dollars(strong_price, usage.strong_input, usage.strong_output),
        weak=_dollars(weak_price, usage.weak_input, usage.weak_output),
        note=usage.note,
    )


def _dollars(price: Price, sent: FloatArray, answered: FloatArray) -> FloatArray:
    return sent * price.input_cost_per_token + answered * price.output_cost_per_token


def mean_dollars(table: CostTable, repetitions: FloatArray, rows: Sequence[Sequence[ThresholdRow]]) -> dict[int, float]:
    """Return dollars per 1,000 prompts by number of strong calls, averaged over repetitions, scores of shape (r, n)."""
    collected: dict[int, list[float]] = {}
    for scores, repetition in zip(repetitions, rows, strict=True):
        for row in repetition:
            collected.setdefault(row.strong_calls, []).append(table.dollars(scores, row))
    return {calls: sum(dollars) / len(dollars) for calls, dollars in collected.items()}
