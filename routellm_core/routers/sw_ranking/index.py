"""The state of ``sw_ranking``: battles sorted by tiers, their embeddings, and the models' tiers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.routers.sw_ranking.battles import BattleTable
from routellm_core.routers.sw_ranking.bradley_terry import compute_tiers, elo_ratings
from routellm_core.routers.sw_ranking.storage import EmbeddingWriter, StorageType, StoredEmbeddings, storage_type_for

__all__ = ["BattleBlock", "BattleIndex"]


@dataclass(frozen=True, eq=False)
class BattleBlock:
    """Battles that were added together.

    They are sorted by outcome, the models' tiers at the time, and the models, so that a tier pair's battles are
    adjacent and their weights are summed in one run. Should tiers change later, the runs become shorter and more, never
    more than one per outcome and pair of models; nothing has to move.
    """

    embeddings: StoredEmbeddings  # n unit rows
    model_a: npt.NDArray[np.int32]  # shape (n,), int32, indices into the index's models
    model_b: npt.NDArray[np.int32]  # likewise
    outcome: npt.NDArray[np.int8]  # shape (n,), int8
    weights: npt.NDArray[np.float32] | None = None  # shape (n,), float32, positive; None where all battles count alike


class BattleIndex:
    """One or more blocks of battles, the tiers of all models that have some, and the sums that the fit needs.

    It never changes. Raises ConfigError where the blocks' embeddings differ in length.
    """

    def __init__(
        self,
        models: Sequence[str],
        blocks: Sequence[BattleBlock],
        tiers: Mapping[str, int],
        *,
        num_tiers: int,
        count_self_battles: bool,
    ) -> None:
        self.models, self.blocks, self.tiers = tuple(models), tuple(blocks), dict(tiers)
        self.num_tiers, self.count_self_battles = num_tiers, count_self_battles
        lengths = {block.embeddings.dimension for block in blocks}
        if len(lengths) != 1:
            raise ConfigError(f"battle embeddings differ in length: {', '.join(map(str, sorted(lengths)))}")
        self.dimension = lengths.pop()
        tier_of = _tier_numbers(models, tiers)
        cells = [_cells(block, tier_of, num_tiers) for block in blocks]
        self.starts = [np.concatenate([[0], np.flatnonzero(np.diff(cell)) + 1]).astype(np.intp) for cell in cells]
        run_cells = np.concatenate([cell[first] for cell, first in zip(cells, self.starts, strict=True)])
        # Runs of one cell, of any block, are added up by sorting the runs once and summing adjacent ones.
        self._run_order = np.argsort(run_cells, kind="stable")
        self._occupied, self._run_starts = np.unique(run_cells[self._run_order], return_index=True)

    @classmethod
    def build(
        cls,
        table: BattleTable,
        batches: Iterable[npt.NDArray[Any]],
        *,
        dtype: str,
        num_tiers: int,
        count_self_battles: bool,
        earlier: Sequence[BattleBlock] = (),
    ) -> BattleIndex:
        """Rate the models, split them into tiers, and store the streamed embeddings in tier order.

        Args:
            table: n ≥ 1 battles.
            batches: their embeddings, shape (k, d) each, n rows in all, in the table's order.
            dtype: see :func:`storage_type_for`.
            num_tiers: how many tiers the models are split into.
            count_self_battles: see ``win_table``.
            earlier: battles that are there already, between the table's models.

        Raises:
            ConfigError: no battles or tiers, not as many embeddings as battles, or embeddings of different lengths.
        """
        if not len(table):
            raise ConfigError("there are no battles (after dropping those with a prompt shorter than 16 characters)")
        tiers = _rated_tiers(table.models, [*earlier, table], num_tiers, count_self_battles)
        block = _make_block(table, batches, dtype, _tier_numbers(table.models, tiers), num_tiers)
        return cls(table.models, [*earlier, block], tiers, num_tiers=num_tiers, count_self_battles=count_self_battles)

    @property
    def rows(self) -> int:
        """Number of battles."""
        return sum(block.embeddings.rows for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored embeddings."""
        return sum(block.embeddings.nbytes for block in self.blocks)

    @property
    def float32_bytes(self) -> int:
        """Bytes that the embeddings would take in float32."""
        return 4 * self.rows * self.dimension

    @property
    def storage_type(self) -> StorageType:
        """How the embeddings are stored."""
        return self.blocks[0].embeddings.storage_type

    def battles_by_model(self) -> dict[str, int]:
        """Return how many battles each model was in."""
        counts = np.zeros(len(self.models), dtype=np.int64)
        for block in self.blocks:
            counts += np.bincount(block.model_a, minlength=len(counts))
            counts += np.bincount(block.model_b, minlength=len(counts))
        return {name: int(count) for name, count in zip(self.models, counts, strict=True)}

    def tier_sums(self, run_sums: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Fold sums by run, shape (B, G), into sums by outcome, tier of model_a and of model_b, shape (B, 3, T, T)."""
        batch, tiers = len(run_sums), self.num_tiers
        sums = np.zeros((batch, 3 * tiers * tiers))
        sums[:, self._occupied] = np.add.reduceat(
            run_sums[:, self._run_order], self._run_starts, axis=1, dtype=np.float64
        )
        return sums.reshape(batch, 3, tiers, tiers)

    def retiered(self, num_tiers: int, count_self_battles: bool) -> BattleIndex:
        """Return the same battles with ratings and tiers found anew."""
        tiers = _rated_tiers(self.models, self.blocks, num_tiers, count_self_battles)
        return BattleIndex(self.models, self.blocks, tiers, num_tiers=num_tiers, count_self_battles=count_self_battles)

    def converted(self, storage_type: StorageType) -> BattleIndex:
        """Return the same index with its embeddings in another storage type."""
        blocks = [replace(block, embeddings=block.embeddings.converted(storage_type)) for block in self.blocks]
        return BattleIndex(
            self.models, blocks, self.tiers, num_tiers=self.num_tiers, count_self_battles=self.count_self_battles
        )

    def extended(self, table: BattleTable, batches: Iterable[npt.NDArray[Any]]) -> BattleIndex:
        """Return an index with more battles, rated anew; the embeddings it has are shared, not copied or read."""
        return BattleIndex.build(
            table.renumbered(tuple(dict.fromkeys([*self.models, *table.models]))),
            batches,
            dtype=self.storage_type,
            num_tiers=self.num_tiers,
            count_self_battles=self.count_self_battles,
            earlier=self.blocks,
        )


def _tier_numbers(models: Sequence[str], tiers: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Return each model's tier, shape (M,); 0 for a model without battles, whose entry is never read."""
    return np.array([tiers.get(name, 0) for name in models], dtype=np.int64)


def _cells(battles: BattleBlock | BattleTable, number_of: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return each battle's cell in a (3, count, count) table: outcome, number of model_a, number of model_b."""
    return (battles.outcome.astype(np.int64) * count + number_of[battles.model_a]) * count + number_of[battles.model_b]


def _rated_tiers(
    models: Sequence[str], parts: Sequence[BattleBlock | BattleTable], num_tiers: int, count_self_battles: bool
) -> dict[str, int]:
    is_weighted = any(part.weights is not None for part in parts)
    ratings = elo_ratings(
        models,
        np.concatenate([part.model_a for part in parts]),
        np.concatenate([part.model_b for part in parts]),
        np.concatenate([part.outcome for part in parts]),
        weights=np.concatenate([_weights(part) for part in parts]) if is_weighted else None,
        count_self_battles=count_self_battles,
    )
    return compute_tiers(ratings, num_tiers)


def _weights(battles: BattleBlock | BattleTable) -> npt.NDArray[np.float32]:
    return np.ones(len(battles.outcome), dtype=np.float32) if battles.weights is None else battles.weights


def _make_block(
    table: BattleTable,
    batches: Iterable[npt.NDArray[Any]],
    dtype: str,
    tier_of: npt.NDArray[np.int64],
    num_tiers: int,
) -> BattleBlock:
    rows = len(table)
    order = np.lexsort((table.model_b, table.model_a, _cells(table, tier_of, num_tiers)))
    # Each embedding goes straight to its sorted place, so that there is never a second copy of them.
    destination = np.empty(rows, dtype=np.intp)
    destination[order] = np.arange(rows)
    writer: EmbeddingWriter | None = None
    done = 0
    for batch in batches:
        if writer is None and batch.ndim == 2:
            dimension = batch.shape[1]
            writer = EmbeddingWriter(rows, dimension, storage_type_for(dtype, 4 * rows * dimension))
        if writer is not None and done + len(batch) <= rows:
            writer.write(batch, destination[done : done + len(batch)])
        done += len(batch)
    if writer is None or done != rows:
        raise ConfigError(
            f"there are {rows} battles but {done} embeddings; the embeddings must belong to the preprocessed battles, "
            "one row each, in order"
        )
    weights = None if table.weights is None else table.weights[order]
    return BattleBlock(writer.finish(), table.model_a[order], table.model_b[order], table.outcome[order], weights)
