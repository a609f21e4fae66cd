"""What the cells of labelled rows mean, checked one by one; every error names file and row."""

from __future__ import annotations

import math
from typing import Any, Final

from routellm_core.errors import ConfigError
from routellm_core.prompts import routing_prompt
from routellm_core.rows.prompts import PromptRecord

_WINNERS: Final = {
    "model_a": 1.0,
    "winner_model_a": 1.0,
    "model_b": 0.0,
    "winner_model_b": 0.0,
    "tie": 0.5,
    "winner_tie": 0.5,
    "tie (bothbad)": 0.5,
    "tie(bothbad)": 0.5,
    "both_bad": 0.5,
}
_SAID_WINNERS: Final = "model_a, model_b, tie, tie (bothbad), or the name of one of both models"
_ONE_HOT: Final = ("winner_model_a", "winner_model_b", "winner_tie")


def prompt_cell(record: PromptRecord) -> str:
    """Return the text that a row is routed on.

    A battle's conversation is judged after so many of the user's turns as its column ``turn`` says (MT-Bench's human
    judgements repeat the whole conversation for the first turn); without it, after all.

    Raises:
        ConfigError: it is empty.
    """
    conversation = record.conversation
    if not isinstance(conversation, str):
        turn = record.values.get("turn") if "model_a" in record.values else None
        if isinstance(turn, int) and turn >= 1:
            asked = [place for place, message in enumerate(conversation) if message["role"] == "user"]
            conversation = conversation[: asked[min(turn, len(asked)) - 1] + 1] if asked else conversation
        conversation = routing_prompt(conversation) or ""
    if not conversation.strip():
        raise ConfigError(f"{record.place}: the prompt is empty; leave the row out")
    return conversation


def number_cell(record: PromptRecord, name: str) -> float:
    """Return a finite number; true and false are 1 and 0.

    Raises:
        ConfigError: the cell holds something else.
    """
    value = record.values.get(name)
    number = _number(value)
    if not math.isfinite(number):
        raise ConfigError(f"{record.place}: {name} must be a number, true or false, got {value!r:.60}")
    return number


def optional_number_cell(record: PromptRecord, name: str) -> float:
    """Return a number as :func:`number_cell` does, NaN for an empty cell or none."""
    return math.nan if record.values.get(name) in (None, "") else number_cell(record, name)


def weight_cell(record: PromptRecord) -> float:
    """Return a row's weight, 1 where it has none.

    Raises:
        ConfigError: it is not a positive, finite number.
    """
    weight = optional_number_cell(record, "weight")
    if weight <= 0.0:
        raise ConfigError(f"{record.place}: weight must be positive, got {weight}; leave rows out that do not count")
    return 1.0 if math.isnan(weight) else weight


def text_cell(record: PromptRecord, name: str) -> str:
    """Return a model's name, stripped.

    Raises:
        ConfigError: the cell is empty or not text.
    """
    if name not in record.values:
        raise ConfigError(f"{record.place}: no column {name!r}")
    value = record.values[name]
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{record.place}: {name} must name a model, got {value!r:.60}")
    return value.strip()


def outcome_cell(record: PromptRecord, model_a: str, model_b: str) -> float:
    """Return 1 where model_a won, 0 where model_b did, 0.5 for a tie.

    Read from ``winner``, or from LMSYS's ``winner_model_a``, ``winner_model_b`` and ``winner_tie``, of which one is 1.

    Raises:
        ConfigError: neither is there, or it names no outcome.
    """
    values = record.values
    if "winner" in values:
        winner = str(values["winner"]).strip()
        outcomes = {model_a: 1.0, model_b: 0.0, **_WINNERS}
        if winner not in outcomes:
            raise ConfigError(f"{record.place}: winner must be one of {_SAID_WINNERS}, got {winner!r:.60}")
        return outcomes[winner]
    if not {"winner_model_a", "winner_model_b"} <= values.keys():
        raise ConfigError(f"{record.place}: a battle needs winner, or winner_model_a and winner_model_b")
    won = [number_cell(record, name) for name in _ONE_HOT if name in values]
    if not set(won) <= {0.0, 1.0} or sum(won) > 1.0 or (len(won) == len(_ONE_HOT) and sum(won) != 1.0):
        raise ConfigError(f"{record.place}: of {', '.join(_ONE_HOT)} one must be 1 and the others 0, got {won}")
    return 0.5 + 0.5 * (won[0] - won[1])


def _number(value: Any) -> float:
    truth = {"true": 1.0, "false": 0.0}.get(str(value).strip().lower())
    try:
        return float(value) if truth is None else truth
    except (TypeError, ValueError):
        return math.nan
