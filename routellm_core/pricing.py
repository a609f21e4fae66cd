"""What calls cost: litellm's price map, read offline, and the estimates made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from routellm_core.backends.base import ModelSettings

__all__ = ["Price", "estimate_tokens", "load_price_map", "price_of"]

_PRICE_FILE = "model_prices_and_context_window_backup.json"
CHARACTERS_PER_TOKEN = 4.0
"""English text under the usual byte-pair tokenisers; an estimate, good to about a fifth."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token.

    Attributes:
        input_cost_per_token: of what a model reads.
        output_cost_per_token: of what it makes.
        cached_input_cost_per_token: of what it read from its cache; None where that costs as much as the rest.
        cache_write_cost_per_token: of what it wrote to its cache, likewise.
    """

    input_cost_per_token: float
    output_cost_per_token: float
    cached_input_cost_per_token: float | None = None
    cache_write_cost_per_token: float | None = None

    def dollars(
        self, input_tokens: float, output_tokens: float, *, cached_tokens: float = 0, written_tokens: float = 0
    ) -> float:
        """Return what so many tokens cost; of the input tokens, some may be from a cache or new in it."""
        plain = self.input_cost_per_token
        cached = plain if self.cached_input_cost_per_token is None else self.cached_input_cost_per_token
        written = plain if self.cache_write_cost_per_token is None else self.cache_write_cost_per_token
        given = (input_tokens - cached_tokens - written_tokens) * plain
        return given + cached_tokens * cached + written_tokens * written + output_tokens * self.output_cost_per_token


@cache
def load_price_map() -> Mapping[str, Mapping[str, Any]]:
    """Return litellm's price map from the installed package: model name to prices and limits.

    Read from the file itself: importing litellm takes seconds and asks the network for a newer map.
    """
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    file = Path(spec.origin).parent / _PRICE_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # litellm moved or renamed its file; prices are then unknown, nothing else fails
        return {}
    return content if isinstance(content, dict) else {}


def price_of(model: ModelSettings | str) -> Price | None:
    """Return a model's price, or None where it is not known.

    A model's own settings win over the price map, where it is looked up as written and without its provider prefix.
    """
    if isinstance(model, ModelSettings):
        if model.input_cost_per_token is not None and model.output_cost_per_token is not None:
            return Price(model.input_cost_per_token, model.output_cost_per_token)
        model = model.model
    prices = load_price_map()
    for name in (model, model.partition("/")[2]):
        entry = prices.get(name, {})
        if "input_cost_per_token" in entry and "output_cost_per_token" in entry:
            caches = (entry.get(f"cache_{kind}_input_token_cost") for kind in ("read", "creation"))
            plain = (float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"]))
            return Price(*plain, *(None if cost is None else float(cost) for cost in caches))
    return None


def estimate_tokens(text: str) -> float:
    """Estimate the number of tokens of a text from its length."""
    return len(text) / CHARACTERS_PER_TOKEN
