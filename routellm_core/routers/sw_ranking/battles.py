"""Battles: which of two models answered a prompt better. Tables of them, RouteLLM's preprocessing, and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.prompts import first_user_text
from routellm_core.routers.sw_ranking.bradley_terry import MODEL_A, MODEL_B, TIE
from routellm_core.rows.cells import outcome_cell, text_cell
from routellm_core.rows.prompts import Conversation, read_records
from routellm_core.rows.sources import RowSource, hub_or_path
from routellm_core.rows.vectors import vector_batches

__all__ = [
    "MIN_PROMPT_LENGTH",
    "BattleTable",
    "embedding_batches",
    "first_turn",
    "load_battles",
    "preprocess_battles",
]

MIN_PROMPT_LENGTH = 16
"""Battles whose first prompt, stripped, has fewer characters are dropped, as RouteLLM does."""

_WINNERS = {"model_a": MODEL_A, "model_b": MODEL_B, "tie": TIE, "tie (bothbad)": TIE}
_OUTCOMES = {1.0: "model_a", 0.0: "model_b", 0.5: "tie"}
_COLUMNS = ("model_a", "model_b", "winner", "winner_model_a", "winner_model_b", "winner_tie")


@dataclass(frozen=True, eq=False)
class BattleTable:
    """Battles between pairs of models.

    Attributes:
        models: names, each once.
        model_a, model_b: shape (n,), int32 indices into ``models``.
        outcome: shape (n,), int8: 0 model_a won, 1 model_b won, 2 tie.
        prompts: the n prompts (first turn, stripped), or None where they were not kept.
        weights: shape (n,), float32, positive: how much a battle counts beside others; None where all count alike.
    """

    models: tuple[str, ...]
    model_a: npt.NDArray[np.int32]
    model_b: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.int8]
    prompts: tuple[str, ...] | None = None
    weights: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        count = len(self.outcome)
        if len(set(self.models)) != len(self.models):
            raise ConfigError("a battle table names a model twice")
        if not len(self.model_a) == len(self.model_b) == count or len(self.prompts or self.outcome) != count:
            raise ConfigError("the columns of a battle table differ in length")
        if self.weights is not None and not (
            self.weights.shape == (count,) and np.isfinite(self.weights).all() and (self.weights > 0.0).all()
        ):
            raise ConfigError(f"battle table: weights must be {count} positive, finite numbers")
        for name, column, limit in (
            ("model_a", self.model_a, len(self.models)),
            ("model_b", self.model_b, len(self.models)),
            ("outcome", self.outcome, 3),
        ):
            if count and not (column.min() >= 0 and column.max() < limit):
                raise ConfigError(f"battle table: {name} must be indices from 0 to {limit - 1}")

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def from_columns(
        cls,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        prompts: Sequence[str] | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> BattleTable:
        """Build a table from names.

        Args:
            model_a: n model names.
            model_b: n model names.
            winner: n of ``model_a``, ``model_b``, ``tie``, ``tie (bothbad)``.
            prompts: n prompts, or None.
            weights: n positive numbers, or None.

        Raises:
            ConfigError: another winner, a weight that is not positive, or columns of different lengths.
        """
        if unknown := sorted(set(winner) - _WINNERS.keys()):
            raise ConfigError(f"battle winner {unknown[0]!r} is not one of {', '.join(map(repr, _WINNERS))}")
        number = {name: index for index, name in enumerate(dict.fromkeys([*model_a, *model_b]))}
        return cls(
            models=tuple(number),
            model_a=np.array([number[name] for name in model_a], dtype=np.int32),
            model_b=np.array([number[name] for name in model_b], dtype=np.int32),
            outcome=np.array([_WINNERS[name] for name in winner], dtype=np.int8),
            prompts=None if prompts is None else tuple(prompts),
            weights=None if weights is None else np.asarray(weights, dtype=np.float32),
        )

    def renumbered(self, models: Sequence[str]) -> BattleTable:
        """Return the same battles with indices into ``models``, which must name every model of this table."""
        place = {name: index for index, name in enumerate(models)}
        lookup = np.array([place[name] for name in self.models], dtype=np.int32)
        if not len(lookup):
            return replace(self, models=tuple(models))
        return replace(self, models=tuple(models), model_a=lookup[self.model_a], model_b=lookup[self.model_b])

    def selected(self, kept: npt.NDArray[np.bool_]) -> BattleTable:
        """Return the battles where ``kept``, shape (n,), is True."""
        prompts = self.prompts
        return BattleTable(
            self.models,
            self.model_a[kept],
            self.model_b[kept],
            self.outcome[kept],
            None if prompts is None else tuple(prompts[row] for row in np.flatnonzero(kept)),
            None if self.weights is None else self.weights[kept],
        )


def preprocess_battles(source: Any) -> tuple[BattleTable, npt.NDArray[np.int64]]:
    """Read battles and apply RouteLLM's preprocessing: those whose first turn, stripped, is short are dropped.

    Args:
        source: what :class:`~routellm_core.rows.sources.RowSource` takes, with rows of the kind "preference": a prompt,
            ``model_a``, ``model_b``, and ``winner``, or ``winner_model_a`` and ``winner_model_b``. Prompts are texts,
            lists of turns or messages, or the JSON of such lists in every row.

    Returns:
        the battles that stay, with their prompts, and the numbers of their rows, shape (n,).

    Raises:
        ConfigError: a column is missing or holds something else.
    """
    kept, prompts, winners = [], [], []
    models: tuple[list[str], list[str]] = ([], [])
    for row, record in enumerate(read_records(source, columns=_COLUMNS)):
        prompt = first_turn(record.conversation)
        names = text_cell(record, "model_a"), text_cell(record, "model_b")
        outcome = outcome_cell(record, *names)
        if len(prompt) < MIN_PROMPT_LENGTH:
            continue
        kept.append(row)
        prompts.append(prompt)
        winners.append(_OUTCOMES[outcome])
        for column, name in zip(models, names, strict=True):
            column.append(name)
    return BattleTable.from_columns(*models, winners, prompts), np.array(kept, dtype=np.int64)


def first_turn(conversation: Conversation) -> str:
    """Return the stripped first turn of a battle."""
    return (conversation if isinstance(conversation, str) else first_user_text(conversation)).strip()


def load_battles(sources: Sequence[str | Path]) -> BattleTable:
    """Load, preprocess and join battle data sets.

    Args:
        sources: files, folders, and data sets on the Hub as ``owner/name`` or ``hf:owner/name``.

    Returns:
        the battles of all sources, in order, with their prompts.

    Raises:
        ConfigError: a source is missing or unreadable, or lacks a column.
        MissingExtraError: reading it needs a package that is not installed.
    """
    return join_battles([preprocess_battles(hub_or_path(source))[0] for source in sources])


def join_battles(tables: Sequence[BattleTable]) -> BattleTable:
    """Return all battles in one table; prompts are kept where every table has them, missing weights are 1."""
    models = tuple(dict.fromkeys(name for table in tables for name in table.models))
    parts = [table.renumbered(models) for table in tables]
    prompts = None
    if all(part.prompts is not None for part in parts):
        prompts = tuple(prompt for part in parts for prompt in part.prompts or ())
    weights = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate(
            [np.ones(len(part), np.float32) if part.weights is None else part.weights for part in parts]
        )
    return BattleTable(
        models,
        np.concatenate([part.model_a for part in parts]) if parts else np.empty(0, np.int32),
        np.concatenate([part.model_b for part in parts]) if parts else np.empty(0, np.int32),
        np.concatenate([part.outcome for part in parts]) if parts else np.empty(0, np.int8),
        prompts,
        weights,
    )


def embedding_batches(sources: Sequence[str | Path]) -> Iterator[npt.NDArray[np.float32]]:
    """Stream embedding data sets, so that they are never in memory twice.

    Args:
        sources: as for :func:`load_battles`; each has a column (or array) ``embeddings``, one vector per row.

    Yields:
        shape (k, d), float32, in order.

    Raises:
        ConfigError: a source is missing or unreadable, or has no such column.
    """
    for source in sources:
        yield from vector_batches(RowSource.parse(hub_or_path(source)), "embeddings")
