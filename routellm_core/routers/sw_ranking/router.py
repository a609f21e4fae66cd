"""The ``sw_ranking`` router: Bradley–Terry ratings of model tiers, fitted per prompt to similarity-weighted battles.

RouteLLM (arXiv 2406.18665, section 4.2) weighs each battle by 10·10^(s / max s), where s is the cosine similarity of
its prompt to the one to be routed, and refits an Elo rating per tier. Here the weights are summed into a table of wins
between tiers, for many prompts by one matrix product, and the ratings follow by Newton's method: the same optimum,
without a regression over every battle. See ``docs/decisions/0002-similarity-weighted-fit.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from routellm_core._files import ASSETS, resolve_checkpoint
from routellm_core._publish import publish
from routellm_core.embeddings import load_embedder
from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.errors import CheckpointError, ConfigError, ScoringError, did_you_mean
from routellm_core.routers.base import Router
from routellm_core.routers.sw_ranking.battles import BattleTable, embedding_batches, load_battles
from routellm_core.routers.sw_ranking.files import checked_quantiles, read_index, write_index
from routellm_core.routers.sw_ranking.group_sums import default_storage_type
from routellm_core.routers.sw_ranking.index import BattleIndex
from routellm_core.routers.sw_ranking.similarity import StorageType, checked_storage_type
from routellm_core.routers.sw_ranking.state import ScoringState
from routellm_core.types import FloatArray

__all__ = ["SimilarityWeightedRouter"]

_PUBLISHED_PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
_PUBLISHED_EMBEDDER = "litellm/text-embedding-3-small"
_EMBED_BATCH = 512


@dataclass(frozen=True)
class _Options:
    """The options that do not say where the battles come from; the class below documents them."""

    strong_model: str | None = None
    weak_model: str | None = None
    num_tiers: int | None = None
    embedder: str | Mapping[str, Any] | Embedder | None = None
    dtype: str = "auto"
    device: str = "auto"
    tile_bytes: int = 64 << 20
    count_self_battles: bool | None = None


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
        dtype: how embeddings are stored: ``float32``, ``float16`` or ``int8`` (a half and a quarter of the memory, and
            faster to score; docs/decisions/0002 has the errors), or ``float64``. ``"auto"`` keeps a saved index's type;
            from data sets it is ``float32`` below 128 MB, above ``int8`` on a CPU and ``float16`` on a GPU.
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

    _embedder: Embedder
    _extending: threading.Lock
    _only_in_memory: bool
    _options: _Options
    _pair: tuple[str, str]
    _quantiles: FloatArray | None
    _state: ScoringState

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
        tile_bytes: int = 64 << 20,
        count_self_battles: bool | None = None,
        revision: str | None = None,
    ) -> None:
        options = _Options(strong_model, weak_model, num_tiers, embedder, dtype, device, tile_bytes, count_self_battles)
        if arena_battle_datasets is None:
            if arena_embedding_datasets is not None:
                raise ConfigError("sw_ranking: arena_embedding_datasets needs arena_battle_datasets")
            self._restore("default" if checkpoint_path is None else checkpoint_path, revision, options)
        else:
            if checkpoint_path is not None:
                raise ConfigError("sw_ranking: give either arena_battle_datasets or checkpoint_path, not both")
            table = load_battles(_sources(arena_battle_datasets, "arena_battle_datasets"))
            batches = None
            if arena_embedding_datasets is not None:
                batches = embedding_batches(_sources(arena_embedding_datasets, "arena_embedding_datasets"))
            self._build(table, batches, options)

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
        tile_bytes: int = 64 << 20,
        count_self_battles: bool = True,
    ) -> SimilarityWeightedRouter:
        """Build a router from n battles in memory, already preprocessed.

        ``embeddings`` has shape (n, d), or is None to embed ``battles.prompts``; the rest is as for the constructor.
        """
        router = cls.__new__(cls)
        options = _Options(strong_model, weak_model, num_tiers, embedder, dtype, device, tile_bytes, count_self_battles)
        router._build(battles, None if embeddings is None else [np.asarray(embeddings)], options)
        router._only_in_memory = True
        return router

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return 1 / (1 + 10^((R_weak − R_strong) / 400)), R being the tiers' ratings; shape (n,), float64."""
        state = self._state
        scores = np.empty(len(prompts), dtype=np.float64)
        for start in range(0, len(prompts), state.batch):
            part = prompts[start : start + state.batch]
            scores[start : start + len(part)] = state.win_rates(self._embed(part, state.index.dimension))
        return scores

    def score_embeddings(self, embeddings: npt.ArrayLike) -> FloatArray:
        """Score prompts that the battles' embedder has embedded already, shape (n, d)."""
        state = self._state
        return state.in_parts(np.asarray(embeddings), state.win_rates)

    def tier_ratings(self, embeddings: npt.ArrayLike) -> FloatArray:
        """Return the Elo rating of every tier for each embedded prompt, shape (n, num_tiers), float64."""
        state = self._state
        return state.in_parts(np.asarray(embeddings), state.ratings)

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
            self._quantiles = None
            self._only_in_memory = True

    def save(
        self, path: str | Path, *, dtype: str | None = None, reference_quantiles: npt.ArrayLike | None = None
    ) -> None:
        """Write the index as a folder for ``checkpoint_path``.

        Args:
            path: the folder.
            dtype: store embeddings as ``float32``, ``float16`` or ``int8``; None keeps their type.
            reference_quantiles: score quantiles over reference traffic, shape (1001,), for calibration without data.
        """
        quantiles = self._quantiles
        if reference_quantiles is not None:
            quantiles = checked_quantiles(np.asarray(reference_quantiles, dtype=np.float64))
        facts: dict[str, Any] = {
            "strong_model": self._pair[0],
            "weak_model": self._pair[1],
            "embedder": self._embedder.name,
        }
        if quantiles is not None:
            facts["reference_quantiles"] = quantiles.tolist()
        kind = None if dtype is None else checked_storage_type(dtype)
        with publish(path) as staged:
            write_index(self._state.index, staged, facts=facts, storage_type=kind)

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
        return str(
            getattr(self._embedder, "prompt_limit", "Long prompts are truncated at the embedding model's limit.")
        )

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

    def __reduce__(self) -> tuple[Any, ...]:
        if self._only_in_memory:
            raise ConfigError(
                "an sw_ranking router built or extended in memory is not pickled; save(path) it and load it with "
                "checkpoint_path"
            )
        return super().__reduce__()

    def _build(self, table: BattleTable, batches: Iterable[npt.NDArray[Any]] | None, options: _Options) -> None:
        self._embedder = load_embedder(_PUBLISHED_EMBEDDER if options.embedder is None else options.embedder)
        kind: StorageType | Callable[[int], StorageType] = (
            partial(default_storage_type, device=options.device)
            if options.dtype == "auto"
            else checked_storage_type(options.dtype)
        )
        index = BattleIndex.build(
            table,
            self._embedded(table) if batches is None else batches,
            storage_type=kind,
            num_tiers=10 if options.num_tiers is None else options.num_tiers,
            count_self_battles=options.count_self_battles is not False,
        )
        self._finish(index, _PUBLISHED_PAIR, options, None)

    def _restore(self, checkpoint_path: str | Path, revision: str | None, options: _Options) -> None:
        if checkpoint_path == "default":
            folder = ASSETS / self.name
            if not folder.is_dir():
                raise CheckpointError(
                    "this build of routellm-core ships no sw_ranking index; give arena_battle_datasets and "
                    "arena_embedding_datasets, or the checkpoint_path of a saved index"
                )
        else:
            folder = resolve_checkpoint(checkpoint_path, revision=revision)
        saved = read_index(folder, num_tiers=options.num_tiers, count_self_battles=options.count_self_battles)
        self._embedder = load_embedder(saved.embedder if options.embedder is None else options.embedder)
        if self._embedder.name != saved.embedder:
            raise ConfigError(
                f"sw_ranking: the index {str(folder)!r} was built with the embedder {saved.embedder!r} and cannot "
                f"score vectors of {self._embedder.name!r}"
            )
        index = saved.index
        if options.dtype != "auto":
            index = index.converted(checked_storage_type(options.dtype))
        self._finish(index, saved.pair, options, saved.reference_quantiles)

    def _finish(
        self, index: BattleIndex, pair: tuple[str, str], options: _Options, quantiles: FloatArray | None
    ) -> None:
        self._options = options
        self._only_in_memory = False
        self._pair = (options.strong_model or pair[0], options.weak_model or pair[1])
        self._quantiles = quantiles if self._pair == pair else None
        self._extending = threading.Lock()
        self._state = self._placed(index)

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
        return ScoringState(index, self._pair, self._options.device, self._options.tile_bytes)

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


def _sources(value: Any, option: str) -> list[str | Path]:
    if isinstance(value, (str, Path)) or not value:
        raise ConfigError(f"sw_ranking: {option} must be a list of data sets, got {value!r}")
    return list(value)
