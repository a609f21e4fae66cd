"""Populations of labelled prompts to draw a user's rows from, and what a router trained on them is truly worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from scipy.stats import rankdata

from routellm_core.embeddings import Embeddings, load_embedder
from routellm_core.routers.mf.checkpoint import MfCheckpoint
from routellm_core.rows.labelled import PairRows, QualityRows

BENCHMARK_PAIR = ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
MANY_MODELS = ("gpt-4o-2024-05-13(repo:gpt4o)", "Mixtral-8x7B-Instruct-v0.1", "gemini-1.5-flash-002", "gemma-7b")
CHAT_PAIR = ("gpt-4o", "gpt-3.5-turbo")
STRENGTHS = {"weak": 0.5, "strong": 2.5}
"""Of made-up outcomes: by how much what the prompt says of each model's quality is scaled."""


class Precomputed:
    """An embedder that looks its vectors up."""

    def __init__(self, start: str, prompts: Sequence[str]) -> None:
        embedder = load_embedder(MfCheckpoint.load(start).embedder)
        self.name, self.dimension = embedder.name, embedder.dimension
        distinct = list(dict.fromkeys(prompts))
        self._known = dict(zip(distinct, embedder.embed(distinct), strict=True))

    def embed(self, texts: Sequence[str]) -> Embeddings:
        if not texts:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        return np.stack([self._known[text] for text in texts])


@dataclass
class Population:
    """N prompts and M models, the first two of which are the pair.

    Attributes:
        prompts: N texts.
        models: M names.
        quality: as labelled, shape (N, M).
        groups: N names, or empty.
        signal: ``measured``: labels as they are. ``null``: every prompt gets another one's, so that nothing can be
            learned. ``weak``, ``strong``: an answer is right with a probability linear in the prompt's vector.
        expected: mean of a label, shape (N, M); the truth is measured with it.
    """

    prompts: list[str]
    models: tuple[str, ...]
    quality: np.ndarray
    groups: list[str]
    signal: str = "measured"
    expected: np.ndarray = field(default_factory=lambda: np.empty(0))

    def rows(self, chosen: np.ndarray, generator: np.random.Generator) -> PairRows | QualityRows:
        """Return labelled rows as a user would give them, their labels drawn where the signal is made up."""
        quality = self.quality[chosen]
        if self.signal == "null":
            quality = self.quality[generator.integers(0, len(self.quality), len(chosen))]
        elif self.signal != "measured":
            quality = (generator.random((len(chosen), len(self.models))) < self.expected[chosen]).astype(np.float64)
        prompts = [self.prompts[row] for row in chosen]
        groups = tuple(self.groups[row] for row in chosen) if self.groups else ()
        if len(self.models) == 2:
            return PairRows(
                prompts=tuple(prompts),
                places=tuple(map(str, chosen)),
                groups=groups,
                strong=quality[:, 0],
                weak=quality[:, 1],
                weights=np.ones(len(chosen)),
                licences=(),
            )
        repeated = len(self.models)
        return QualityRows(
            prompts=tuple(prompt for prompt in prompts for _ in range(repeated)),
            places=tuple(str(row) for row in chosen for _ in range(repeated)),
            groups=tuple(group for group in groups for _ in range(repeated)),
            models=self.models * len(chosen),
            scores=quality.ravel(),
            weights=np.ones(len(chosen) * repeated),
            licences=(),
        )

    def drawn(self, generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of whole groups until there are ``n``, and all other rows."""
        if not self.groups:
            order = generator.permutation(len(self.prompts))
            return order[:n], order[n:]
        named = np.array(self.groups)
        place = {group: rank for rank, group in enumerate(generator.permutation(np.unique(named)))}
        order = np.argsort([place[group] for group in named], kind="stable")
        last = named[order[n - 1]]
        end = n + int(np.argmax(named[order[n:]] != last)) if named[order[n]] == last else n
        return order[:end], order[end:]


def true_apgr(scores: np.ndarray, gain: np.ndarray) -> float:
    """APGR without steps: 1/2 + cov(rank, gain) / mean gain."""
    ranks = (rankdata(scores) - 0.5) / len(scores) - 0.5
    return float(0.5 + (ranks * gain).mean() / gain.mean())


def load(name: str, shared: Path) -> Population:
    """Read ``mmlu``, ``gsm8k`` (a pair), ``chat`` (a pair, conversations) or ``many`` (four models)."""
    if name in ("mmlu", "gsm8k"):
        table = parquet.read_table(shared / "data" / "routellm_benchmarks" / f"{name}.parquet").to_pandas()
        table = table[~table["contaminated"]]
        quality = table[list(BENCHMARK_PAIR)].to_numpy(dtype=np.float64)
        prompts = [prompt.strip() for prompt in table["prompt"]]
        return Population(prompts, BENCHMARK_PAIR, quality, [], expected=quality)
    pool, source, models = ("pool_train", "mmlu_pro", MANY_MODELS)
    if name == "chat":
        pool, source, models = ("pool_chat", "sysbench", CHAT_PAIR)
    table = parquet.read_table(shared / "data" / pool / "prompts.parquet").to_pandas().set_index("prompt_id")
    scores = parquet.read_table(shared / "data" / pool / "scores.parquet").to_pandas()
    table = table[table["source"] == source]
    scores = scores[scores["prompt_id"].isin(table.index) & scores["model"].isin(models)]
    wide = scores.pivot_table(index="prompt_id", columns="model", values="score")[list(models)].dropna()
    quality = wide.to_numpy(dtype=np.float64)
    groups = [prompt_id.rpartition("-")[0] for prompt_id in wide.index] if name == "chat" else []
    prompts = [prompt.strip() for prompt in table.loc[wide.index, "prompt"]]
    return Population(prompts, models, quality, groups, expected=quality)


def with_signal(population: Population, signal: str, vectors: np.ndarray) -> Population:
    """Return the population with other labels; see ``Population.signal``.

    Args:
        population: with labels as measured.
        signal: ``measured``, ``null``, ``weak`` or ``strong``.
        vectors: of the prompts; made-up labels depend on them in the direction that the real ones do.
    """
    means = population.quality.mean(axis=0)
    if signal == "measured":
        return population
    if signal == "null":
        return replace(population, signal=signal, expected=np.tile(means, (len(vectors), 1)))
    features = vectors - vectors.mean(axis=0)
    features = features[:, features.std(axis=0) > 1e-6]
    features /= np.maximum(features.std(axis=0), 0.05)
    gram = features.T @ features + 5000.0 * np.eye(features.shape[1])
    deviation = features @ np.linalg.solve(gram, features.T @ (population.quality - means))
    expected = np.clip(means + STRENGTHS[signal] * deviation, 0.02, 0.98)
    return replace(population, signal=signal, expected=expected)
