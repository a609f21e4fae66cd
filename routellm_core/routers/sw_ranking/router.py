"""The ``sw_ranking`` router: Bradley–Terry ratings of model tiers, fitted per prompt to similarity-weighted battles.

RouteLLM (arXiv 2406.18665, section 4.2) weighs each battle by 10·10^(s / max s), where s is the cosine similarity of
its prompt to the one to be routed, and refits an Elo rating per tier. Here the weights are summed into a table of wins
between tiers, for many prompts by one matrix product, and the ratings follow by Newton's method: the same optimum,
without a regression over every battle. See ``docs/decisions/0002-similarity-weighted-fit.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from routellm_core._files import ASSETS, resolve_checkpoint
from routellm_core._publish import publish
from routellm_core.embeddings import load_embedder
from routellm_core.embeddings.base import Embedder, Embeddings, prompt_limit_of
from routellm_core.errors import CheckpointError, ConfigError, ScoringError, did_you_mean
from routellm_core.metrics.scores import sigmoid
from routellm_core.routers.base import Router
from routellm_core.routers.reference import checked_quantiles
from routellm_core.routers.sw_ranking.battles import BattleTable, embedding_batches, load_battles
from routellm_core.routers.sw_ranking.bradley_terry import elo_from_strengths, fit_strengths, win_table
from routellm_core.routers.sw_ranking.files import index_digest, read_index, write_index
from routellm_core.routers.sw_ranking.index import BattleIndex
from routellm_core.routers.sw_ranking.similarity import make_group_sums
from routellm_core.routers.sw_ranking.storage import storage_type_for, unit_rows
from routellm_core.types import FloatArray

__all__ = ["ScoringState", "SimilarityWeightedRouter"]

_PUBLISHED_PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
_PUBLISHED_EMBEDDER = "litellm/text-embedding-3-small"
_EMBED_BATCH = 512
_TILE_BYTES = 64 << 20
_MAX_BATCH = 128
"""Most prompts per pass over the embeddings; a matrix product gains nothing from more."""


class ScoringState:
    """An index placed on a device for one scored pair (strong, weak); replaced as a whole when battles are added."""

    def __init__(self, index: BattleIndex, pair: tuple[str, str], device: str, tile_bytes: int) -> None:
        self.index = index
        self._tiers = (index.tiers[pair[0]], index.tiers[pair[1]])
        self._batch = max(1, min(_MAX_BATCH, tile_bytes // (4 * index.rows)))
        self._group_sums, self.runs_on = make_group_sums(
            [block.embeddings for block in index.blocks],
            index.starts,
            [block.weights for block in index.blocks],
            device=device,
        )

    @cached_property
    def digest(self) -> str:
        """Computed on first use: hashing a gigabyte takes a second."""
        return index_digest(self.index)

    def strengths(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return tier strengths in nats for n embedded prompts, shape (n, T), as many at a time as memory allows."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.index.dimension:
            raise ScoringError(f"embeddings have shape {embeddings.shape}, expected (n, {self.index.dimension})")
        if not np.isfinite(embeddings).all():
            raise ScoringError("a prompt's embedding holds NaN or an infinity")
        strengths = np.empty((len(embeddings), self.index.num_tiers))
        for start in range(0, len(embeddings), self._batch):
            part = slice(start, start + self._batch)
            sums = self.index.tier_sums(self._group_sums(unit_rows(embeddings[part])))
            strengths[part] = fit_strengths(win_table(sums, count_self_battles=self.index.count_self_battles))
        return strengths

    def win_rates(self, embeddings: npt.NDArray[Any]) -> FloatArray:
        """Return P(strong beats weak), shape (n,)."""
        strengths, (strong, weak) = self.strengths(embeddings), self._tiers
        return sigmoid(strengths[:, strong] - strengths[:, weak])


class SimilarityWeightedRouter(Router):
    """Scores by ratings fitted to the battles most similar to the prompt.

    Args:
        arena_battle_datasets: Hub ids, files or folders of battles (see :func:`load_battles`).
        arena_embedding_datasets: likewise, one embedding per battle that preprocessing keeps, in order. Left out, the
            battles' prompts are embedded with ``embedder`` at start.
        checkpoint_path: a folder that :meth:`save` wrote, or a Hub id of one, in place of the data sets; ``"default"``
            (where no data sets are given) is the index that ships with the package.
        strong_model: the stronger model of the pair to score, which may differ from the pair dispatched to. By default
            the saved index's, or RouteLLM's ``gpt-4-1106-preview``.
        weak_model: the weaker one; by default the saved index's, or RouteLLM's ``mixtral-8x7b-instruct-v0.1``.
        num_tiers: tiers that the models are split into; by default the saved index's, or 10.
        embedder: an embedder or its name; it must be the one behind the battle embeddings. By default the saved
            index's, or RouteLLM's text-embedding-3-small.
        dtype: how embeddings are stored: ``float32``, or ``int8`` (a quarter of the memory, and faster to score;
            docs/decisions/0002 has the errors). ``"auto"`` keeps a saved index's type; from data sets it is ``float32``
            below 128 MB and ``int8`` above.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"`` … Only a GPU needs PyTorch.
        tile_bytes: most memory for the similarities at a time; a larger batch is worked off in parts.
        count_self_battles: True treats a battle within one tier as RouteLLM does, False leaves it out (see
            ``win_table``); by default the saved index's choice, or True.
        revision: the Hub branch, tag or commit of ``checkpoint_path``.

    Raises:
        ConfigError: options that contradict each other, unusable data, or a scored model without battles.
        CheckpointError: the saved index cannot be loaded.
    """

    name: ClassVar[str] = "sw_ranking"

    def __init__(
        self,
        *,
        arena_battle_datasets: Sequence[str | Path] | None = None,
        arena_embedding_datasets: Sequence[str | Path] | None = None,
        checkpoint_path: str | Path | None = None,
        strong_model: str | None = None,
        weak_model: str | None = None,
        num_tiers: int | None = None,
        embedder: str | Mapping[str, Any] | Embedder | None = None,
        dtype: str = "auto",
        device: str = "auto",
        tile_bytes: int = _TILE_BYTES,
        count_self_battles: bool | None = None,
        revision: str | None = None,
    ) -> None:
        self._start(device, tile_bytes)
        if arena_battle_datasets is not None:
            if checkpoint_path is not None:
                raise ConfigError("sw_ranking: give either arena_battle_datasets or checkpoint_path, not both")
            table = load_battles(_sources(arena_battle_datasets, "arena_battle_datasets"))
            batches = None
            if arena_embedding_datasets is not None:
                batches = embedding_batches(_sources(arena_embedding_datasets, "arena_embedding_datasets"))
            self._build(
                table,
                batches,
                embedder=embedder or _PUBLISHED_EMBEDDER,
                pair=(strong_model or _PUBLISHED_PAIR[0], weak_model or _PUBLISHED_PAIR[1]),
                num_tiers=10 if num_tiers is None else num_tiers,
                dtype=dtype,
                count_self_battles=count_self_battles is not False,
            )
            return
        if arena_embedding_datasets is not None:
            raise ConfigError("sw_ranking: arena_embedding_datasets needs arena_battle_datasets")
        folder = _index_folder("default" if checkpoint_path is None else checkpoint_path, revision)
        saved = read_index(folder, num_tiers=num_tiers, count_self_battles=count_self_battles)
        self._embedder = load_embedder(saved.embedder if embedder is None else embedder)
        if self._embedder.name != saved.embedder:
            raise ConfigError(
                f"sw_ranking: the index {str(folder)!r} was built with the embedder {saved.embedder!r} and cannot "
                f"score vectors of {self._embedder.name!r}"
            )
        index = saved.index
        self._pair = (strong_model or saved.pair[0], weak_model or saved.pair[1])
        self._quantiles = saved.reference_quantiles if self._pair == saved.pair else None
        self._state = self._placed(
            index if dtype == "auto" else index.converted(storage_type_for(dtype, index.float32_bytes))
        )

    @classmethod
    def from_arrays(
        cls,
        battles: BattleTable,
        embeddings: npt.ArrayLike | None,
        *,
        embedder: str | Mapping[str, Any] | Embedder,
        strong_model: str = _PUBLISHED_PAIR[0],
        weak_model: str = _PUBLISHED_PAIR[1],
        num_tiers: int = 10,
        dtype: str = "auto",
        device: str = "auto",
        tile_bytes: int = _TILE_BYTES,
        count_self_battles: bool = True,
    ) -> SimilarityWeightedRouter:
        """Build a router from n battles in memory, already preprocessed.

        ``embeddings`` has shape (n, d), or is None to embed ``battles.prompts``; the rest is as for the constructor.
        """
        router = cls.__new__(cls)
        router._start(device, tile_bytes)
        router._build(
            battles,
            None if embeddings is None else [np.asarray(embeddings)],
            embedder=embedder,
            pair=(strong_model, weak_model),
            num_tiers=num_tiers,
            dtype=dtype,
            count_self_battles=count_self_battles,
        )
        return router

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return 1 / (1 + 10^((R_weak − R_strong) / 400)), R being the tiers' ratings; shape (n,), float64."""
        state = self._state
        scores = np.empty(len(prompts), dtype=np.float64)
        for start in range(0, len(prompts), _EMBED_BATCH):
            part = prompts[start : start + _EMBED_BATCH]
            scores[start : start + len(part)] = state.win_rates(self._embed(part, state.index.dimension))
        return scores

    def score_embeddings(self, embeddings: npt.ArrayLike) -> FloatArray:
        """Score prompts that the battles' embedder has embedded already, shape (n, d)."""
        return self._state.win_rates(np.asarray(embeddings))

    def tier_ratings(self, embeddings: npt.ArrayLike) -> FloatArray:
        """Return the Elo rating of every tier for each embedded prompt, shape (n, num_tiers), float64."""
        return elo_from_strengths(self._state.strengths(np.asarray(embeddings)))

    @property
    def model2tier(self) -> dict[str, int]:
        """The tier of every model with battles; 0 is the best."""
        return dict(self._state.index.tiers)

    def extend(self, battles: BattleTable, embeddings: npt.ArrayLike | None = None) -> None:
        """Add battles; the result equals a router built from all battles at once.

        Ratings and tiers are found anew from win counts in milliseconds; the embeddings that are there already are
        neither copied nor read. Scores change as with a new checkpoint: calibrate again. Other threads may score
        meanwhile.

        Args:
            battles: n ≥ 1 battles, which may name new models.
            embeddings: shape (n, d); None embeds ``battles.prompts``.

        Raises:
            ConfigError: the embeddings do not fit the battles or the index.
        """
        with self._extending:
            batches = self._embedded(battles) if embeddings is None else [np.asarray(embeddings)]
            self._state = self._placed(self._state.index.extended(battles, batches))
            self._quantiles = self.loaded_from = None

    def save(
        self, path: str | Path, *, dtype: str | None = None, reference_quantiles: npt.ArrayLike | None = None
    ) -> None:
        """Write the index as a folder for ``checkpoint_path``.

        Args:
            path: the folder.
            dtype: store embeddings as ``float32`` or ``int8``; None keeps their type.
            reference_quantiles: score quantiles over reference traffic, shape (1001,), for calibration without data.
        """
        quantiles = checked_quantiles(reference_quantiles, source=f"{self.name}.save")
        facts: dict[str, Any] = {
            "strong_model": self._pair[0],
            "weak_model": self._pair[1],
            "embedder": self._embedder.name,
        }
        kept = self._quantiles if quantiles is None else quantiles
        if kept is not None:
            facts["reference_quantiles"] = kept.tolist()
        index = self._state.index
        kind = index.storage_type if dtype is None else storage_type_for(dtype, index.float32_bytes)
        with publish(path) as staged:
            write_index(index.converted(kind), staged, facts=facts)

    @property
    def fingerprint(self) -> str:
        """Digest of battles, embeddings and tiers; scored pair; embedder."""
        return f"{self.name}:{self._state.digest}:{self._pair[0]}:{self._pair[1]}:{self._embedder.name}"

    @property
    def reference_quantiles(self) -> FloatArray | None:
        """The saved index's, which hold for its pair and options only."""
        return self._quantiles

    @property
    def prompt_limit(self) -> str:
        """The embedder's."""
        return prompt_limit_of(self._embedder)

    def describe(self) -> dict[str, Any]:
        """Return battles, tiers, embedder, storage and device beside the base facts."""
        index = self._state.index
        return {
            **super().describe(),
            "battles": index.rows,
            "models": len(index.tiers),
            "num_tiers": index.num_tiers,
            "embedder": self._embedder.name,
            "scored_pair": " against ".join(self._pair),
            "dtype": index.storage_type,
            "embedding_megabytes": round(index.nbytes / 2**20, 1),
            "device": self._state.runs_on,
        }

    def __getstate__(self) -> dict[str, Any]:
        # What is on the device stays there; the index is placed anew where the pickle arrives.
        return {**vars(self), "_extending": None, "_state": self._state.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._extending = threading.Lock()
        self._state = self._placed(state["_state"])

    def _start(self, device: str, tile_bytes: int) -> None:
        if tile_bytes < 1:
            raise ConfigError(f"sw_ranking: tile_bytes is {tile_bytes}; it must be at least 1")
        self._device, self._tile_bytes = device, tile_bytes
        self._extending = threading.Lock()

    def _build(
        self,
        table: BattleTable,
        batches: Iterable[npt.NDArray[Any]] | None,
        *,
        embedder: str | Mapping[str, Any] | Embedder,
        pair: tuple[str, str],
        **options: Any,
    ) -> None:
        self._embedder, self._pair, self._quantiles = load_embedder(embedder), pair, None
        self._state = self._placed(
            BattleIndex.build(table, self._embedded(table) if batches is None else batches, **options)
        )

    def _placed(self, index: BattleIndex) -> ScoringState:
        for model in self._pair:
            if model not in index.tiers:
                counts = sorted(index.battles_by_model().items(), key=lambda item: -item[1])
                most = ", ".join(f"{name} ({count})" for name, count in counts[:8] if count)
                raise ConfigError(
                    f"sw_ranking: the model {model!r} has no battles, so it has no rating."
                    f"{did_you_mean(model, index.tiers)} Set strong_model and weak_model to models that have some; "
                    f"there are {len(index.tiers)}, most often {most}"
                )
        if self._embedder.dimension not in (None, index.dimension):
            raise ConfigError(
                f"sw_ranking: the embedder {self._embedder.name!r} returns vectors of length "
                f"{self._embedder.dimension}, the battle embeddings have {index.dimension}"
            )
        return ScoringState(index, self._pair, self._device, self._tile_bytes)

    def _embed(self, prompts: Sequence[str], dimension: int) -> Embeddings:
        embeddings = np.asarray(self._embedder.embed(prompts), dtype=np.float32)
        if embeddings.shape != (len(prompts), dimension):
            raise ScoringError(
                f"the embedder {self._embedder.name!r} returned shape {embeddings.shape} for {len(prompts)} prompts; "
                f"the battle embeddings have length {dimension}"
            )
        return embeddings

    def _embedded(self, table: BattleTable) -> Iterable[Embeddings]:
        if table.prompts is None:
            raise ConfigError("sw_ranking: without embeddings, the battle table must keep its prompts to embed them")
        starts = range(0, len(table), _EMBED_BATCH)
        return (self._embedder.embed(list(table.prompts[start : start + _EMBED_BATCH])) for start in starts)


def _index_folder(checkpoint_path: str | Path, revision: str | None) -> Path:
    if checkpoint_path != "default":
        return resolve_checkpoint(checkpoint_path, revision=revision)
    folder = ASSETS / SimilarityWeightedRouter.name
    if not folder.is_dir():
        raise CheckpointError(
            "this build of routellm-core ships no sw_ranking index; give arena_battle_datasets and "
            "arena_embedding_datasets, or the checkpoint_path of a saved index"
        )
    return folder


def _sources(value: Any, option: str) -> list[str | Path]:
    if isinstance(value, (str, Path)) or not value:
        raise ConfigError(f"sw_ranking: {option} must be a list of data sets, got {value!r}")
    return list(value)
