"""Reading and scoring the prompts that a calibration is made on, in constant memory and resumable."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routellm_core._files import file_sha256
from routellm_core.calibration import PromptCosts, PromptQuality
from routellm_core.errors import ConfigError
from routellm_core.evals.score_cache import ScoreCache
from routellm_core.pricing import Price, estimate_tokens
from routellm_core.prompts import message_text, routing_prompt
from routellm_core.routers.base import Router, checked_scores
from routellm_core.rows.files import row_files
from routellm_core.rows.prompts import Conversation, PromptRecord, read_records
from routellm_core.types import FloatArray

__all__ = ["PromptSource", "TokenPrices", "Traffic", "score_traffic"]

_CHUNK = 8192
"""Prompts held at a time; routers that batch by length see at least this many together."""
_QUALITY = {"strong": ("strong", "strong_quality"), "weak": ("weak", "weak_quality")}
_TOKENS = ("input_tokens", "output_tokens", "strong_output_tokens", "weak_output_tokens")
_COLUMNS = (*_QUALITY["strong"], *_QUALITY["weak"], *_TOKENS)


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from.

    Attributes:
        files: read one after the other.
        name: what the user called them.
        column: the prompt's column, or None for the usual names.
        first_turn: cells hold a JSON list of a conversation's user turns, as in LMSYS's data sets; take the first.
    """

    files: tuple[Path, ...]
    name: str
    column: str | None = None
    first_turn: bool = False

    @classmethod
    def open(cls, name: str, *, column: str | None = None, first_turn: bool = False) -> PromptSource:
        """Find the files of ``name``: a path, or ``hf:owner/name[:split]`` for a data set on the Hub.

        Raises:
            ConfigError: there are none, or they are in a format that is not read row by row.
            MissingExtraError: a Hub data set without the extra ``[hub]``.
        """
        return cls(row_files(name), name, column, first_turn)

    def records(self) -> Iterator[PromptRecord]:
        """Yield the rows."""
        for file in self.files:
            yield from read_records(file, column=self.column, columns=_COLUMNS)

    def text(self, record: PromptRecord) -> str | None:
        """Return the text that a row is routed on, or None where it has none."""
        conversation: Conversation = record.conversation
        if isinstance(conversation, str):
            text = _first_turn(conversation) if self.first_turn else conversation
            return text if text.strip() else None
        return routing_prompt(conversation)

    def describe(self, count: int) -> str:
        """Return the data's name, number of prompts and checksum in one line."""
        digest = hashlib.sha256("".join(file_sha256(file) for file in self.files).encode()).hexdigest()
        return f"{self.name} ({count:,} prompts, sha256 {digest[:16]})"


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """What tokens cost, and how many an answer has where the rows do not say.

    Attributes:
        strong: the strong model's price.
        weak: the weak model's price.
        output_tokens: per answer.
    """

    strong: Price
    weak: Price
    output_tokens: float


@dataclass(frozen=True)
class Traffic:
    """n scored prompts.

    Attributes:
        scores: shape (n,).
        costs: dollars per request, or None without prices.
        quality: both models' quality, or None where the rows have no labels.
        without_text: rows passed over because there was nothing to route on.
    """

    scores: FloatArray
    costs: PromptCosts | None
    quality: PromptQuality | None
    without_text: int


def score_traffic(
    router: Router,
    source: PromptSource,
    *,
    prices: TokenPrices | None,
    cache: ScoreCache | None,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> Traffic:
    """Score every prompt of a source.

    Scores are committed to ``cache`` batch by batch, so that a run that was stopped goes on where it was. Only numbers
    are kept: a million prompts take 8 MB, and five times that with costs and labels.

    Args:
        router: the router.
        source: the prompts.
        prices: for costs; None leaves them out.
        cache: of scores; passed over for a router whose scores are random.
        batch_size: prompts per call of the router.
        on_progress: called with the number of further rows that are done.

    Raises:
        ConfigError: no prompts, a file that cannot be read, or a label or token count that is not a number.
        ScoringError: the router failed; what was scored before is kept in ``cache``.
    """
    kept = None if router.is_stochastic else cache
    tables: list[FloatArray] = []
    without_text = 0
    records = source.records()
    while chunk := list(itertools.islice(records, _CHUNK)):
        routed = [(record, text) for record in chunk if (text := source.text(record)) is not None]
        without_text += len(chunk) - len(routed)
        scores = _scores(router, [text for _, text in routed], kept, batch_size)
        facts = [(*_costs(record, prices), *_labels(record)) for record, _ in routed]
        tables.append(np.column_stack([scores, np.array(facts, dtype=np.float64).reshape(-1, 4)]))
        on_progress(len(chunk))
    table = np.concatenate([np.empty((0, 5)), *tables])  # (n, 5)
    if not len(table):
        raise ConfigError(f"{source.name} holds no prompt with text")
    costs = PromptCosts(table[:, 1], table[:, 2]) if prices else None
    return Traffic(table[:, 0].copy(), costs, _quality(table[:, 3], table[:, 4], source), without_text)


def _scores(router: Router, texts: list[str], cache: ScoreCache | None, batch_size: int) -> FloatArray:
    if cache is not None:
        return cache.scores(router, texts, batch_size=batch_size)
    starts = range(0, len(texts), batch_size)
    return np.concatenate(
        [np.empty(0), *(checked_scores(router, texts[start : start + batch_size]) for start in starts)]
    )


def _costs(record: PromptRecord, prices: TokenPrices | None) -> tuple[float, float]:
    """Return dollars on the strong and on the weak model; NaN without prices."""
    if prices is None:
        return math.nan, math.nan
    sent = _number(record, "input_tokens")
    if math.isnan(sent):
        sent = estimate_tokens(_whole_text(record.conversation))
    usual = _number(record, "output_tokens")
    usual = prices.output_tokens if math.isnan(usual) else usual
    strong, weak = (_number(record, f"{tier}_output_tokens") for tier in ("strong", "weak"))
    return (
        prices.strong.dollars(sent, usual if math.isnan(strong) else strong),
        prices.weak.dollars(sent, usual if math.isnan(weak) else weak),
    )


def _labels(record: PromptRecord) -> tuple[float, float]:
    """Return the quality of the strong and of the weak model; NaN where the row does not say."""
    return _number(record, *_QUALITY["strong"]), _number(record, *_QUALITY["weak"])


def _quality(strong: FloatArray, weak: FloatArray, source: PromptSource) -> PromptQuality | None:
    missing = np.isnan(strong) | np.isnan(weak)
    if missing.all():
        return None
    if missing.any():
        raise ConfigError(
            f"{source.name}: {int(missing.sum()):,} of {len(strong):,} rows have no quality of both models (columns "
            "'strong' and 'weak'). Label every row, or leave the columns out"
        )
    return PromptQuality(strong, weak)


def _number(record: PromptRecord, *columns: str) -> float:
    """Return the first of ``columns`` that the row has, NaN for an empty cell or none."""
    value: Any = next((record.values[column] for column in columns if column in record.values), None)
    if value is None or value == "":
        return math.nan
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{record.place}: {columns[0]} is {value!r}; expected a number, true or false") from error


def _whole_text(conversation: Conversation) -> str:
    if isinstance(conversation, str):
        return conversation
    return "\n".join(message_text(message) for message in conversation)


def _first_turn(cell: str) -> str:
    try:
        turns = json.loads(cell)
    except ValueError:
        return cell
    return str(turns[0] or "") if isinstance(turns, list) and turns else cell
