"""Cost in dollars: tokens per prompt times prices per token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.base import Benchmark
from routellm_core.metrics.curves import ThresholdRow
from routellm_core.pricing import Price, load_price_map
from routellm_core.types import FloatArray

__all__ = ["CostTable", "ModelPrice", "PriceMap", "cost_table", "parse_price", "price_of"]

_MILLION = 1_000_000.0


PriceMap: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Model name to ``input_cost_per_token`` and ``output_cost_per_token``, as litellm publishes it."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """A model's price.

    Attributes:
        price: dollars per token.
        source: where the price comes from, such as the price map's key.
    """

    price: Price
    source: str


@dataclass(frozen=True, slots=True)
class CostTable:
    """What routing costs.

    Attributes:
        strong_price: the strong model's price.
        weak_price: the weak model's price.
        strong: dollars per prompt on the strong model, shape (n,).
        weak: dollars per prompt on the weak model, shape (n,).
        note: how tokens were counted.
    """

    strong_price: ModelPrice
    weak_price: ModelPrice
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


def parse_price(text: str) -> ModelPrice:
    """Read ``"10,30"``: dollars per million tokens sent and answered.

    Raises:
        ConfigError: not two numbers that are at least 0.
    """
    try:
        sent, answered = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"price {text!r} must be dollars per million input and output tokens, such as 10,30"
        ) from error
    if not (0.0 <= sent < float("inf") and 0.0 <= answered < float("inf")):
        raise ConfigError(f"price {text!r} must be two finite numbers that are at least 0")
    return ModelPrice(
        Price(sent / _MILLION, answered / _MILLION), f"given: ${sent:g} / ${answered:g} per million tokens"
    )


def price_of(model: str, prices: PriceMap) -> ModelPrice | None:
    """Return a model's price, or None where the map has none.

    Falls back to the first provider's price (alphabetically) for a bare model name, such as
    ``anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1`` for ``mistralai/Mixtral-8x7B-Instruct-v0.1``; the source says so.
    """
    for key in [model, *sorted(name for name in prices if name.endswith(f"/{model}"))]:
        record = prices.get(key) or {}
        sent, answered = record.get("input_cost_per_token"), record.get("output_cost_per_token")
        if isinstance(sent, (int, float)) and isinstance(answered, (int, float)):
            dollars = f"${sent * _MILLION:g} / ${answered * _MILLION:g} per million tokens"
            return ModelPrice(Price(float(sent), float(answered)), f"price map entry {key!r}: {dollars}")
    return None


def cost_table(
    benchmark: Benchmark,
    *,
    strong_price: ModelPrice | None = None,
    weak_price: ModelPrice | None = None,
    prices: PriceMap | None = None,
) -> CostTable | None:
    """Return what each prompt costs on each model, or None where tokens or prices are not known.

    Args:
        benchmark: its ``usage`` holds the tokens.
        strong_price: overrides the price map.
        weak_price: overrides the price map.
        prices: the price map; litellm's installed one by default.
    """
    usage = benchmark.usage
    if usage is None:
        return None
    known = load_price_map() if prices is None and not (strong_price and weak_price) else prices or {}
    strong_price = strong_price or price_of(benchmark.pair.strong, known)
    weak_price = weak_price or price_of(benchmark.pair.weak, known)
    if strong_price is None or weak_price is None:
        return None
    return CostTable(
        strong_price=strong_price,
        weak_price=weak_price,
        strong=_dollars(strong_price.price, usage.strong_input, usage.strong_output),
        weak=_dollars(weak_price.price, usage.weak_input, usage.weak_output),
        note=usage.note,
    )


def _dollars(price: Price, sent: FloatArray, answered: FloatArray) -> FloatArray:
    return sent * price.input_cost_per_token + answered * price.output_cost_per_token


def mean_dollars(table: CostTable, repetitions: FloatArray, rows: Sequence[Sequence[ThresholdRow]]) -> dict[int, float]:
    """Return dollars per 1,000 prompts by number of strong calls, averaged over repetitions.

    Args:
        table: prices.
        repetitions: scores, shape (r, n).
        rows: the rows of each repetition.
    """
    collected: dict[int, list[float]] = {}
    for scores, repetition in zip(repetitions, rows, strict=True):
        for row in repetition:
            collected.setdefault(row.strong_calls, []).append(table.dollars(scores, row))
    return {calls: sum(dollars) / len(dollars) for calls, dollars in collected.items()}
