"""What calls cost: litellm's price map, read offline, and the estimates made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from routellm_core.errors import ConfigError
from routellm_core.providers.settings import ModelSettings

_PRICE_FILE = "model_prices_and_context_window_backup.json"
CHARACTERS_PER_TOKEN = 4.0
"""English text under the usual byte-pair tokenisers; an estimate, good to about a fifth."""
_MILLION = 1_000_000.0

PriceMap: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Model name to ``input_cost_per_token`` and ``output_cost_per_token``, as litellm publishes it."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token.

    Attributes:
        input_cost_per_token: of what is sent.
        output_cost_per_token: of what is answered.
        source: where the price comes from, as a phrase for reports.
        cached_input_cost_per_token: of what is sent and the provider's prompt cache holds; None where not known.
        cache_write_cost_per_token: of what is sent and goes into that cache; None where not known.
    """

    input_cost_per_token: float
    output_cost_per_token: float
    source: str = field(default="", compare=False)
    cached_input_cost_per_token: float | None = None
    cache_write_cost_per_token: float | None = None

    def dollars(
        self, input_tokens: float, output_tokens: float, cached_tokens: float = 0, written_tokens: float = 0
    ) -> float:
        """Return what so many tokens cost; ``cached_tokens`` and ``written_tokens`` are of the input."""
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


def model_entry(model: ModelSettings | str) -> Mapping[str, Any]:
    """Return what litellm's map says of a model; it is looked up as written and without its provider prefix."""
    name = model.model if isinstance(model, ModelSettings) else model
    known = load_price_map()
    return known.get(name) or known.get(name.partition("/")[2]) or {}


def price_of(model: ModelSettings | str, prices: PriceMap | None = None) -> Price | None:
    """Return a model's price, or None where it is not known.

    A model's own settings win over the price map. There it is looked up as written, without its provider prefix, and
    then under the providers that offer it, of which the alphabetically first is taken
    (``anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1`` for ``mistralai/Mixtral-8x7B-Instruct-v0.1``); the price's
    ``source`` says so.

    Args:
        model: settings, or a name.
        prices: the price map; litellm's installed one by default.
    """
    if isinstance(model, ModelSettings):
        if model.input_cost_per_token is not None and model.output_cost_per_token is not None:
            return Price(
                model.input_cost_per_token,
                model.output_cost_per_token,
                "the model's settings",
                model.cached_input_cost_per_token,
            )
        model = model.model
    known = load_price_map() if prices is None else prices
    offered = _offers(model) if prices is None else _offers_in(model, known)
    for name in (model, model.partition("/")[2], *offered):
        entry = known.get(name, {})
        sent, answered = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
        if isinstance(sent, (int, float)) and isinstance(answered, (int, float)):
            caches = (entry.get(f"cache_{kind}_input_token_cost") for kind in ("read", "creation"))
            source = f"price map entry {name!r}: {_dollars(sent, answered)}"
            return Price(float(sent), float(answered), source, *(None if c is None else float(c) for c in caches))
    return None


@cache
def _offers(model: str) -> tuple[str, ...]:
    return _offers_in(model, load_price_map())


def _offers_in(model: str, prices: PriceMap) -> tuple[str, ...]:
    return tuple(sorted(name for name in prices if name.endswith(f"/{model}")))


def _dollars(sent: float, answered: float) -> str:
    return f"${sent * _MILLION:g} / ${answered * _MILLION:g} per million tokens"


def parse_price(text: str) -> Price:
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
    sent, answered = sent / _MILLION, answered / _MILLION
    return Price(sent, answered, f"given: {_dollars(sent, answered)}")


def estimate_tokens(text: str) -> float:
    """Estimate the number of tokens of a text from its length."""
    return len(text) / CHARACTERS_PER_TOKEN
