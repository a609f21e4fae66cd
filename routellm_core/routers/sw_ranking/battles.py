"""Battles: which of two models answered a prompt better. Tables of them, RouteLLM's preprocessing, and embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.routers.sw_ranking.bradley_terry import MODEL_A, MODEL_B, TIE
from routellm_core.rows import files as files

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


def first_turn(prompt: Any, *, row: int = 0) -> str:
    """Return the stripped first turn of an arena prompt: a JSON list of turns as text, or such a list itself.

    Raises:
        ConfigError: neither, with the row's number.
    """
    try:
        turns = json.loads(prompt) if isinstance(prompt, str) else prompt
        first = turns[0] if isinstance(turns, (list, tuple)) else None
    except (ValueError, IndexError):
        first = None
    if not isinstance(first, str):
        raise ConfigError(
            f"battle row {row}: prompt must be a JSON list of turns such as '[\"Hi\"]', got {prompt!r:.80}"
        )
    return first.strip()


def preprocess_battles(columns: dict[str, Sequence[Any]]) -> tuple[BattleTable, npt.NDArray[np.int64]]:
    """Apply RouteLLM's preprocessing to raw arena battles.

    The winner is ``model_a`` where ``winner_model_a`` is 1, else ``model_b`` where ``winner_model_b`` is 1, else a tie;
    battles whose first turn, stripped, is shorter than 16 characters are dropped.

    Args:
        columns: ``prompt``, ``model_a``, ``model_b`` and either ``winner_model_a`` and ``winner_model_b``, or
            ``winner`` (``model_a``, ``model_b``, ``tie``, ``tie (bothbad)``).

    Returns:
        the battles that stay, with their prompts, and the numbers of their rows, shape (n,).

    Raises:
        ConfigError: a column is missing or holds something else.
    """
    required = {"prompt", "model_a", "model_b"}
    if missing := sorted(required - columns.keys()):
        raise ConfigError(f"battle data has no column {missing[0]!r}; it has {', '.join(sorted(columns)) or 'none'}")
    prompts = [first_turn(prompt, row=row) for row, prompt in enumerate(columns["prompt"])]
    winners = _winners(columns)
    kept = np.array([row for row, prompt in enumerate(prompts) if len(prompt) >= MIN_PROMPT_LENGTH], dtype=np.int64)
    model_a, model_b = columns["model_a"], columns["model_b"]
    table = BattleTable.from_columns(
        [str(model_a[row]) for row in kept],
        [str(model_b[row]) for row in kept],
        [winners[row] for row in kept],
        [prompts[row] for row in kept],
    )
    return table, kept


def _winners(columns: dict[str, Sequence[Any]]) -> list[str]:
    if "winner_model_a" in columns and "winner_model_b" in columns:
        pairs = zip(columns["winner_model_a"], columns["winner_model_b"], strict=True)
        return ["model_a" if a == 1 else "model_b" if b == 1 else "tie" for a, b in pairs]
    if "winner" in columns:
        return [str(winner) for winner in columns["winner"]]
    raise ConfigError("battle data needs the columns 'winner_model_a' and 'winner_model_b', or 'winner'")


def load_battles(sources: Sequence[str | Path]) -> BattleTable:
    """Load, preprocess and join battle data sets.

    Args:
        sources: Hub data set ids (``owner/name``), files (parquet, csv, json, jsonl, npz) or folders of them.

    Returns:
        the battles of all sources, in order, with their prompts.

    Raises:
        ConfigError: a source is missing or unreadable, or lacks a column.
        MissingExtraError: reading it needs a package that is not installed.
    """
    tables = []
    for source in sources:
        columns: dict[str, list[Any]] = {}
        for file in files.resolve_dataset(source):
            wanted = ["prompt", "model_a", "model_b", "winner_model_a", "winner_model_b", "winner"]
            for batch in files.column_batches(file, wanted):
                for name, values in batch.items():
                    columns.setdefault(name, []).extend(values)
        try:
            tables.append(preprocess_battles({name: list(values) for name, values in columns.items()})[0])
        except ConfigError as error:
            raise ConfigError(f"battle data set {str(source)!r}: {error}") from error
    return join_battles(tables)


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
        for file in files.resolve_dataset(source):
            for batch in files.column_batches(file, ["embeddings"]):
                if "embeddings" not in batch:
                    raise ConfigError(f"{file} has no column 'embeddings'")
                yield files.as_matrix(batch["embeddings"], file)
