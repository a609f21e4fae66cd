"""Training prompts that are too close to evaluation prompts: equal, sharing word sequences, or near in meaning."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from routellm_core._publish import publish_file
from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.errors import ConfigError
from routellm_core.evals.benchmarks.files import repository_rows
from routellm_core.evals.benchmarks.mmlu import SUBJECTS
from routellm_core.evals.benchmarks.mt_bench import TURNS, read_questions
from routellm_core.evals.benchmarks.registry import canonical_name, load_benchmark

MatchKind: TypeAlias = Literal["exact", "ngram", "embedding"]
_WORD = re.compile(r"\w+")
_EVAL_BLOCK = 1024
_TRAIN_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Match:
    """A training prompt that is near an evaluation prompt, each with its 0-based position.

    The first four fields are those of RouteLLM's ``contaminated_prompts.jsonl``; ``similarity`` is 1 for exact matches,
    the share of the evaluation prompt's n-grams that the training prompt holds, or the cosine similarity.
    """

    train_prompt: str
    eval_prompt: str
    train_idx: int
    eval_idx: int
    kind: MatchKind
    similarity: float


def find_contamination(
    train_prompts: Sequence[str],
    eval_prompts: Sequence[str],
    *,
    embedder: Embedder | None = None,
    similarity_threshold: float = 0.95,
    ngram: int = 8,
    ngram_share: float = 0.5,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Match]:
    """Return the nearest training prompt of each contaminated evaluation prompt and kind of match, in their order.

    Args:
        train_prompts: prompts that a router was trained on.
        eval_prompts: prompts that it is evaluated on.
        embedder: finds matches by meaning, as RouteLLM does; None leaves them out.
        similarity_threshold: least cosine similarity, in (0, 1]; 0.95 is RouteLLM's, for ``text-embedding-3-small``.
        ngram: words per n-gram; shorter evaluation prompts are compared exactly only.
        ngram_share: least share of an evaluation prompt's n-grams that one training prompt holds, in (0, 1].
        on_progress: called with (evaluation prompts compared by meaning, in all).

    Raises:
        ConfigError: a threshold outside its range.
        EmbeddingError: the embedder failed.
    """
    if not 0.0 < similarity_threshold <= 1.0 or not 0.0 < ngram_share <= 1.0 or ngram < 1:
        raise ConfigError("similarity_threshold and ngram_share must be in (0, 1], and ngram at least 1")
    found = [*_exact(train_prompts, eval_prompts), *_shared_ngrams(train_prompts, eval_prompts, ngram, ngram_share)]
    if embedder is not None and train_prompts and eval_prompts:
        found += _near(train_prompts, eval_prompts, embedder, similarity_threshold, on_progress)
    order = {"exact": 0, "ngram": 1, "embedding": 2}
    found.sort(key=lambda hit: (hit[1], order[hit[2]]))
    return [
        Match(train_prompts[train], eval_prompts[evaluated], train, evaluated, kind, similarity)
        for train, evaluated, kind, similarity in found
    ]


def evaluation_prompts(benchmark: str, *, data_dir: Path) -> list[str]:
    """Return all prompts of a benchmark, those that are decontaminated away included, both turns of MT-Bench.

    Raises:
        ConfigError: no such benchmark, or a file is missing.
    """
    name = canonical_name(benchmark)
    if name == "mmlu":
        files = [f"mmlu/responses/mmlu_{subject}.csv" for subject in SUBJECTS]
        return [row["prompt"] for file in files for row in repository_rows(data_dir, file)]
    if name == "gsm8k":
        return [row["prompt"] for row in repository_rows(data_dir, "gsm8k/gsm8k_responses.csv")]
    if name == "mt-bench":
        questions = read_questions(data_dir)
        return [str(question["turns"][turn]) for turn in range(TURNS) for question in questions]
    return list(load_benchmark(name, data_dir=data_dir).prompts)


def write_matches(matches: Sequence[Match], path: Path) -> None:
    """Write matches as JSON lines; RouteLLM's own benchmarks read the file as their decontamination list."""
    publish_file(path, "".join(json.dumps(asdict(match), ensure_ascii=False) + "\n" for match in matches))


_Hit: TypeAlias = tuple[int, int, MatchKind, float]


def _words(prompt: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())


def _exact(train_prompts: Sequence[str], eval_prompts: Sequence[str]) -> Iterator[_Hit]:
    """Match prompts that are equal but for case, punctuation and white space."""
    first: dict[tuple[str, ...], int] = {}
    for position, prompt in enumerate(train_prompts):
        first.setdefault(tuple(_words(prompt)), position)
    for position, prompt in enumerate(eval_prompts):
        words = tuple(_words(prompt))
        # A prompt without a word ("?!") says nothing about where it comes from unless it is the very same text.
        if words and words in first:
            yield first[words], position, "exact", 1.0


def _shared_ngrams(
    train_prompts: Sequence[str], eval_prompts: Sequence[str], length: int, least_share: float
) -> Iterator[_Hit]:
    grams_of = [_ngrams(prompt, length) for prompt in eval_prompts]
    wanted: dict[int, list[int]] = defaultdict(list)
    for evaluated, grams in enumerate(grams_of):
        for gram in grams:
            wanted[gram].append(evaluated)
    best: dict[int, tuple[float, int]] = {}
    for train, prompt in enumerate(train_prompts):
        shared = Counter(evaluated for gram in _ngrams(prompt, length) for evaluated in wanted.get(gram, ()))
        for evaluated, count in shared.items():
            share = count / len(grams_of[evaluated])
            if share >= least_share and share > best.get(evaluated, (0.0, 0))[0]:
                best[evaluated] = (share, train)
    for evaluated, (share, train) in best.items():
        yield train, evaluated, "ngram", share


def _ngrams(prompt: str, length: int) -> set[int]:
    words = _words(prompt)
    return {hash(tuple(words[start : start + length])) for start in range(len(words) - length + 1)}


def _near(
    train_prompts: Sequence[str],
    eval_prompts: Sequence[str],
    embedder: Embedder,
    threshold: float,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[_Hit]:
    """Compare blocks, so that memory stays at two blocks and the training embeddings."""
    train = np.concatenate(
        [
            _unit(embedder.embed(train_prompts[at : at + _TRAIN_BLOCK]))
            for at in range(0, len(train_prompts), _TRAIN_BLOCK)
        ]
    )
    for start in range(0, len(eval_prompts), _EVAL_BLOCK):
        block = _unit(embedder.embed(eval_prompts[start : start + _EVAL_BLOCK]))
        best = np.full(len(block), -np.inf, dtype=np.float32)
        nearest = np.zeros(len(block), dtype=np.int64)
        for at in range(0, len(train), _TRAIN_BLOCK):
            similarity = block @ train[at : at + _TRAIN_BLOCK].T
            here = similarity.argmax(axis=1)
            value = similarity[np.arange(len(block)), here]
            nearest = np.where(value > best, here + at, nearest)
            best = np.maximum(best, value)
        for row in np.flatnonzero(best >= threshold):
            yield int(nearest[row]), start + int(row), "embedding", float(best[row])
        if on_progress is not None:
            on_progress(min(start + _EVAL_BLOCK, len(eval_prompts)), len(eval_prompts))


def _unit(vectors: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # An empty prompt may have no direction; it then resembles nothing.
    return np.asarray(vectors / np.where(lengths > 0.0, lengths, 1.0), dtype=np.float32)
