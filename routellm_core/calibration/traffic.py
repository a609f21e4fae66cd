"""Prompts scored for a calibration, in constant memory and resumable, with what they cost and how well they went."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from routellm_core.calibration.curves import PromptCosts, PromptQuality
from routellm_core.errors import ConfigError
from routellm_core.pricing import Price, estimate_tokens, parse_price, price_of
from routellm_core.prompts import first_user_text, routing_prompt
from routellm_core.routers.base import Router
from routellm_core.rows.cells import optional_number_cell
from routellm_core.rows.labelled import DEFAULT_PAIR, LABEL_COLUMNS, LabelledRecords, label_columns, pair_rows, row_kind
from routellm_core.rows.prompts import PromptRecord, conversation_text, read_records
from routellm_core.rows.sources import RowSource
from routellm_core.score_cache import ScoreCache
from routellm_core.scoring import score_in_batches
from routellm_core.types import FloatArray

TOKEN_COLUMNS: Final = ("input_tokens", "output_tokens", "strong_output_tokens", "weak_output_tokens")
"""Columns with the tokens of a row, where it has them."""
_CHUNK: Final = 8192
"""Prompts held at a time; routers that batch by length see at least this many together."""
_NAN_PAIR: Final = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """What tokens cost, and ``output_tokens``: how many an answer has where the rows do not say."""

    strong: Price
    weak: Price
    output_tokens: float = 300.0

    @classmethod
    def of(
        cls,
        strong_model: Any,
        weak_model: Any,
        *,
        strong_price: str | None = None,
        weak_price: str | None = None,
        output_tokens: float = 300.0,
    ) -> TokenPrices | None:
        """Return the prices of two models, by name or settings, or None where they are not known.

        A given price, ``"10,30"`` dollars per million input and output tokens, takes the place of the known one.

        Raises:
            ConfigError: a price was given, but the other one is not known.
        """
        strong = parse_price(strong_price) if strong_price else price_of(strong_model)
        weak = parse_price(weak_price) if weak_price else price_of(weak_model)
        if strong and weak:
            return cls(strong, weak, output_tokens)
        if strong_price or weak_price:
            unknown = weak_model if strong else strong_model
            raise one_price_missing(getattr(unknown, "model", unknown))
        return None

    def describe(self) -> str:
        """Return where both prices come from."""
        assumed = f"{self.output_tokens:g} tokens per answer where rows do not say"
        return f"strong {self.strong.source}; weak {self.weak.source}; {assumed}"


def one_price_missing(model: str) -> ConfigError:
    """Return the error about a price that is needed because the other one was given."""
    return ConfigError(f"no price is known for {model!r}; give --strong-price and --weak-price both, or neither")


def token_counts(record: PromptRecord, output_tokens: float) -> tuple[float, float, float]:
    """Return the tokens of a row: sent, and answered by the strong and the weak model.

    Where the row lacks these columns, the prompt's length and ``output_tokens`` count.

    Raises:
        ConfigError: a count that is not a number.
    """
    sent, usual, *answered = (optional_number_cell(record, name) for name in TOKEN_COLUMNS)
    sent = estimate_tokens(conversation_text(record.conversation)) if math.isnan(sent) else sent
    usual = output_tokens if math.isnan(usual) else usual
    strong, weak = (usual if math.isnan(count) else count for count in answered)
    return sent, strong, weak


@dataclass(frozen=True)
class PromptSource:
    """The prompts of a calibration, ``rows`` with the prompt in ``column`` (None for the usual names).

    ``first_turn`` routes conversations on the user's first turn instead of the last; columns with labels may be called
    after the ``pair``, strong and weak.
    """

    rows: RowSource
    column: str | None = None
    first_turn: bool = False
    pair: tuple[str, str] = DEFAULT_PAIR

    def count(self) -> int | None:
        """Return the number of rows, which also finds a broken one before any work; None for what is read only once."""
        return sum(1 for _ in self.records()) if self.rows.is_rereadable else None

    def records(self, *, labelled: bool = False) -> Iterable[PromptRecord]:
        """Yield the prompts: every row, but of rows with one model's quality each and of battles every prompt once.

        Args:
            labelled: refuse rows without labels, and of these two kinds leave prompts out that lack one of both.

        Raises:
            ConfigError: rows that cannot be read, or without labels.
        """
        columns = [*LABEL_COLUMNS, *self.pair, *TOKEN_COLUMNS]
        records = iter(read_records(self.rows, column=self.column, columns=columns))
        first = next(records, None)
        if first is None:
            return ()
        columns_there = label_columns(first.values, self.pair)
        if columns_there or row_kind(first.values) is None:
            if labelled and not columns_there:
                raise ConfigError(
                    f"{first.place}: a quality needs labels: rows with the quality of both models, in columns 'strong' "
                    "and 'weak'"
                )
            return itertools.chain([first], records)
        return self._once_each([first, *records], labelled=labelled)

    def _once_each(self, records: list[PromptRecord], *, labelled: bool) -> Iterable[PromptRecord]:
        rows = LabelledRecords(records, row_kind(records[0].values) or "", None).rows()
        at = {record.place: record for record in records}
        distinct = dict(zip(reversed(rows.prompts), reversed(rows.places), strict=True))
        try:
            pairs = pair_rows(rows, strong_model=self.pair[0], weak_model=self.pair[1])
        except ConfigError:
            if labelled:
                raise
            pairs = None
        if pairs is None or not (labelled or len(set(pairs.prompts)) == len(distinct)):
            return (replace(at[place], values={}) for place in reversed(distinct.values()))
        return (
            replace(at[place], values={**at[place].values, DEFAULT_PAIR[0]: strong, DEFAULT_PAIR[1]: weak})
            for place, strong, weak in zip(pairs.places, pairs.strong, pairs.weak, strict=True)
        )

    def text(self, record: PromptRecord) -> str | None:
        """Return the text that a row is routed on, or None where it has none."""
        conversation = record.conversation
        if not isinstance(conversation, str):
            conversation = (first_user_text if self.first_turn else routing_prompt)(conversation) or ""
        return conversation if conversation.strip() else None

    def describe(self, count: int) -> str:
        """Return the data's name, number of prompts and checksum in one line."""
        return f"{self.rows.name} ({', '.join(filter(None, (f'{count:,} prompts', self.rows.checksum())))})"


@dataclass(frozen=True)
class Traffic:
    """n scored prompts.

    Attributes:
        scores: shape (n,).
        costs: None without prices.
        quality: None where the rows have no labels.
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
    prices: TokenPrices | None = None,
    cache: ScoreCache | None = None,
    batch_size: int = 512,
    labelled: bool = False,
    on_progress: Callable[[int], None] | None = None,
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
        labelled: as for :meth:`PromptSource.records`.
        on_progress: called with the number of further rows that are done.

    Raises:
        ConfigError: no prompts, a file that cannot be read, or a label or token count that is not a number.
        ScoringError: the router failed; what was scored before is kept in ``cache``.
    """
    kept = None if router.is_stochastic else cache
    tables: list[FloatArray] = []
    without_text = 0
    records = iter(source.records(labelled=labelled))
    while chunk := list(itertools.islice(records, _CHUNK)):
        routed = [(record, text) for record in chunk if (text := source.text(record)) is not None]
        without_text += len(chunk) - len(routed)
        scores = _scores(router, [text for _, text in routed], kept, batch_size)
        facts = [(*_dollars(record, prices), *_labels(record, source.pair)) for record, _ in routed]
        tables.append(np.column_stack([scores, np.array(facts, dtype=np.float64).reshape(-1, 4)]))
        if on_progress is not None:
            on_progress(len(chunk))
    table = np.concatenate([np.empty((0, 5)), *tables])  # (n, 5)
    if not len(table):
        raise ConfigError(f"{source.rows.name} holds no prompt with text")
    costs = PromptCosts(table[:, 1], table[:, 2]) if prices else None
    return Traffic(table[:, 0].copy(), costs, _quality(table[:, 3], table[:, 4], source), without_text)


def _scores(router: Router, texts: list[str], cache: ScoreCache | None, batch_size: int) -> FloatArray:
    if cache is not None:
        return cache.scores(router, texts, batch_size=batch_size)
    return np.concatenate([np.empty(0), *score_in_batches(router, texts, batch_size=batch_size)])


def _dollars(record: PromptRecord, prices: TokenPrices | None) -> tuple[float, float]:
    """Return dollars on the strong and on the weak model; NaN without prices."""
    if prices is None:
        return _NAN_PAIR
    sent, strong, weak = token_counts(record, prices.output_tokens)
    return prices.strong.dollars(sent, strong), prices.weak.dollars(sent, weak)


def _labels(record: PromptRecord, pair: tuple[str, str]) -> tuple[float, float]:
    """Return the quality of the strong and of the weak model; NaN where the row does not say."""
    columns = label_columns(record.values, pair)
    return (
        (optional_number_cell(record, columns[0]), optional_number_cell(record, columns[1])) if columns else _NAN_PAIR
    )


def _quality(strong: FloatArray, weak: FloatArray, source: PromptSource) -> PromptQuality | None:
    missing = np.isnan(strong) | np.isnan(weak)
    if missing.all():
        return None
    if missing.any():
        raise ConfigError(
            f"{source.rows.name}: {int(missing.sum()):,} of {len(strong):,} rows have no quality of both models "
            "(columns 'strong' and 'weak'). Label every row, or leave the columns out"
        )
    return PromptQuality(strong, weak)
