"""What calls cost: litellm's price map, read offline, and the estimates made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from routellm_core.providers.settings import ModelSettings

__all__ = ["Price", "estimate_tokens", "load_price_map", "model_entry", "price_of"]

_PRICE_FILE = "model_prices_and_context_window_backup.json"
CHARACTERS_PER_TOKEN = 4.0
"""English text under the usual byte-pair tokenisers; an estimate, good to about a fifth."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token; the cached rate is for what the provider's prompt cache holds, None where it is not known."""

    input_cost_per_token: float
    output_cost_per_token: float
    cached_input_cost_per_token: float | None = None

    def dollars(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> float:
        """Return what so many tokens cost; ``cached_tokens`` are of the input."""
        cached = (
            self.input_cost_per_token if self.cached_input_cost_per_token is None else self.cached_input_cost_per_token
        )
        read = (input_tokens - cached_tokens) * self.input_cost_per_token + cached_tokens * cached
        return read + output_tokens * self.output_cost_per_token


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


def model_entry(model: ModelSettings | str) -> Mapping[str, Any]:
    """Return what litellm's map says of a model; it is looked up as written and without its provider prefix."""
    name = model.model if isinstance(model, ModelSettings) else model
    known = load_price_map()
    return known.get(name) or known.get(name.partition("/")[2]) or {}


def price_of(model: ModelSettings | str) -> Price | None:
    """Return a model's price, or None where it is not known. A model's own settings win over litellm's map."""
    if isinstance(model, ModelSettings):
        own = model.input_cost_per_token, model.output_cost_per_token
        if own[0] is not None and own[1] is not None:
            return Price(own[0], own[1], model.cached_input_cost_per_token)
    entry = model_entry(model)
    if "input_cost_per_token" not in entry or "output_cost_per_token" not in entry:
        return None
    cached = entry.get("cache_read_input_token_cost")
    return Price(
        float(entry["input_cost_per_token"]),
        float(entry["output_cost_per_token"]),
        None if cached is None else float(cached),
    )


def estimate_tokens(text: str) -> float:
    """Estimate the number of tokens of a text from its length."""
    return len(text) / CHARACTERS_PER_TOKEN
