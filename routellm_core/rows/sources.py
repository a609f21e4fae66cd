"""Where labelled rows come from: files, folders and data sets on the Hub, each with a weight, read cell by cell."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from routellm_core.errors import ConfigError, UnsupportedPromptError
from routellm_core.prompts import as_messages, routing_prompt
from routellm_core.rows.files import HUB_PREFIX, row_files
from routellm_core.rows.prompts import PromptRecord, read_records, user_turns

__all__ = ["RowSource", "number_cell", "outcome_cell", "prompt_cell", "text_cell", "weight_cell"]

_WEIGHTED: Final = re.compile(r"weight=([^:]*):(.+)", re.DOTALL)
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


@dataclass(frozen=True)
class RowSource:
    """One source of rows.

    Attributes:
        location: a file, a folder or ``hf:owner/name[:split]``.
        weight: what its rows count, times what each row says itself.
    """

    location: str
    weight: float = 1.0

    @classmethod
    def parse(cls, source: str | Path) -> RowSource:
        """Read ``judged.jsonl`` or ``weight=0.5:judged.jsonl``; a path that begins so is written ``./weight=…``.

        Raises:
            ConfigError: a weight that is not a positive, finite number.
        """
        found = _WEIGHTED.fullmatch(str(source))
        if found is None:
            return cls(str(source))
        weight = _number(found[1])
        if not 0.0 < weight < math.inf:
            raise ConfigError(
                f"data source {str(source)!r}: the weight must be a positive number, got {found[1]!r}; write "
                "weight=0.5:FILE, and ./weight=… for a file of such a name"
            )
        return cls(found[2], weight)

    @property
    def label(self) -> str:
        """The source as a card names it: without folders, which do not travel."""
        name = self.location if self.location.startswith(HUB_PREFIX) else Path(self.location).name
        return name if self.weight == 1.0 else f"weight={self.weight:g}:{name}"

    def records(self, *, column: str | None, columns: Sequence[str]) -> list[PromptRecord]:
        """Read all rows; where every prompt is a JSON list of turns or messages, as in LMSYS's files, it is parsed.

        Raises:
            ConfigError: nothing is there, or it cannot be read.
            UnsupportedPromptError: a row holds no prompt; the message has its file and line.
        """
        records = [
            record for file in row_files(self.location) for record in read_records(file, column=column, columns=columns)
        ]
        parsed = [_parsed_turns(record) for record in records]
        if all(record is not None for record in parsed):
            return [record for record in parsed if record is not None]
        return records


def _parsed_turns(record: PromptRecord) -> PromptRecord | None:
    """Return the record with its conversation parsed, or None where its prompt is a text like any other."""
    text = record.conversation
    if not isinstance(text, str):
        return record
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
        return replace(record, conversation=user_turns(value) or as_messages(value))
    except (ValueError, UnsupportedPromptError):
        return None


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
        raise ConfigError(f"{record.place}: the prompt is empty")
    return conversation


def number_cell(record: PromptRecord, name: str) -> float:
    """Return a finite number; true and false are 1 and 0.

    Raises:
        ConfigError: the cell holds something else.
    """
    value = record.values.get(name)
    number = _number(value)
    if not math.isfinite(number):
        raise ConfigError(f"{record.place}: {name} must be a number, got {value!r:.60}")
    return number


def weight_cell(record: PromptRecord) -> float:
    """Return a row's weight, 1 where it has none.

    Raises:
        ConfigError: it is not a positive, finite number.
    """
    if record.values.get("weight") in (None, ""):
        return 1.0
    weight = number_cell(record, "weight")
    if weight <= 0.0:
        raise ConfigError(f"{record.place}: weight must be positive, got {weight}; leave rows out that do not count")
    return weight


def text_cell(record: PromptRecord, name: str) -> str:
    """Return a model's name, stripped.

    Raises:
        ConfigError: the cell is empty or not text.
    """
    value = record.values.get(name)
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
