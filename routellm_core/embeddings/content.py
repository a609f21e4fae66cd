"""What is read in a prompt without understanding it: its tokens, and what can be counted in them.

One pass over the tokens of the request gives everything: the rows of a table are summed for the meaning, the rows of
another count characters by class. Counts are taken of the request alone (:mod:`routellm_core.embeddings._request`), so
that padding, courtesy, quotes, letter case and what an agent adds do not change them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from routellm_core._files import ASSETS
from routellm_core.embeddings._request import request_and_paste
from routellm_core.embeddings.base import encodable
from routellm_core.errors import CheckpointError, EmbeddingError

__all__ = [
    "CONTENT_NAMES",
    "COUNT_NAMES",
    "STATIC_FOLDER",
    "Content",
    "ContentReader",
    "content_dimension",
    "count_features",
]

STATIC_FOLDER: Final = ASSETS / "static_v2"
COUNT_NAMES: Final = (
    "letter", "digit", "question", "comma", "period", "colon", "exclamation", "quote", "round", "bracket", "arithmetic",
    "tex", "code", "ideograph", "symbol", "word", "number", "long_word", "token",
)  # fmt: skip
"""What a token counts for, in the order of the columns of the asset's ``counts``."""
CONTENT_NAMES: Final = (
    "words", "words_to_12", "words_to_40", "words_above_120",
    *(f"log_{name}" for name in (
        "number", "digit", "question", "comma", "period", "colon", "quote", "round", "bracket", "arithmetic", "tex",
        "code", "symbol", "letter",
    )),
    "number_share", "comma_share", "period_share", "arithmetic_share", "code_share", "tex_share", "long_word_share",
    "tokens_per_word", "ideograph_share", "letter_share", "has_choices", "ends_with_question",
)  # fmt: skip
"""The content features, in the order of their columns, which belongs to the embedders' version."""
_COLUMN: Final = {name: column for column, name in enumerate(COUNT_NAMES)}
_LOGGED: Final = [_COLUMN[name.removeprefix("log_")] for name in CONTENT_NAMES if name.startswith("log_")]
_CHARACTERS: Final = _COLUMN["word"]
_CHOICE: Final = re.compile(r"(?:^|[\s(])([a-j])[.):](?=\s)")
_CHOICES: Final = 3
_QUESTION_MARKS: Final = ("?", "؟")
_PASTE_WEIGHT: Final = 0.05
_CLIP: Final = 4.0
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Content:
    """What was read in n prompts.

    Attributes:
        ids: the tokens of each request.
        semantic: shape (n, d), mean of the token vectors, scaled to length √d.
        features: shape (n, len(CONTENT_NAMES)), in standard deviations over ordinary prompts, in [-4, 4].
        word_score: shape (n,), what the words alone say about the strong model's lead.
    """

    ids: list[list[int]]
    semantic: Floats
    features: Floats
    word_score: Floats


@dataclass(frozen=True, slots=True)
class _Asset:
    name: str
    vectors: Floats  # (V, d); row 0 stands for a text without tokens
    counts: Floats  # (V, len(COUNT_NAMES))
    word_weights: Floats  # (V,)
    means: Floats
    scales: Floats
    heads: dict[str, Floats]
    tokenizer: Any


def content_dimension() -> int:
    """Number of content features."""
    return len(CONTENT_NAMES)


def count_features(counts: Floats, requests: Sequence[str]) -> Floats:
    """Return the content features, not standardised.

    Args:
        counts: shape (n, len(COUNT_NAMES)), sums over the tokens of each request.
        requests: the n requests, in lower case.

    Returns:
        shape (n, len(CONTENT_NAMES)), float32, finite.
    """

    def of(name: str) -> Floats:
        return counts[:, _COLUMN[name]]

    characters = np.maximum(counts[:, :_CHARACTERS].sum(axis=1), 1.0)
    # Scripts without spaces: an ideograph or syllable counts for six tenths of a word.
    words = of("word") + 0.6 * of("ideograph")
    tokens, length = np.maximum(of("token"), 1.0), np.log1p(words)
    choices = [len(set(_CHOICE.findall(request))) >= _CHOICES for request in requests]
    columns = (
        length,
        np.minimum(length, np.log1p(12.0)),
        np.minimum(length, np.log1p(40.0)),
        np.maximum(length - np.log1p(120.0), 0.0),
        *np.log1p(counts[:, _LOGGED]).T,
        of("number") / tokens,
        of("comma") / characters * 20,
        of("period") / characters * 20,
        of("arithmetic") / characters * 10,
        (of("bracket") + of("code")) / characters * 10,
        of("tex") / characters * 10,
        of("long_word") / tokens,
        tokens / np.maximum(words, 1.0) / 2,
        of("ideograph") / characters,
        of("letter") / characters,
        choices,
        [request.endswith(_QUESTION_MARKS) for request in requests],
    )
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)


class ContentReader:
    """Reads prompts with the static table. Safe to use from several threads.

    Args:
        folder: a folder written by ``research.static_asset``.

    Raises:
        CheckpointError: the asset is missing or damaged.
    """

    def __init__(self, folder: Path = STATIC_FOLDER) -> None:
        self._asset = _shared_asset(folder.resolve())

    @property
    def name(self) -> str:
        """The asset's name, such as ``"static-v2"``."""
        return self._asset.name

    @property
    def semantic_dimension(self) -> int:
        """d, the length of the semantic part."""
        return int(self._asset.vectors.shape[1])

    @property
    def heads(self) -> dict[str, Floats]:
        """The opinion heads of the static embedder, see :mod:`routellm_core.embeddings.opinions`."""
        return self._asset.heads

    @property
    def word_weights(self) -> Floats:
        """What each token says about the strong model's lead, shape (V,)."""
        return self._asset.word_weights

    @staticmethod
    def forget() -> None:
        """Drop the assets that this process holds, so that a rewritten folder is read again."""
        with _assets_lock:
            _assets.clear()

    def raw_features(self, texts: Sequence[str]) -> Floats:
        """The content features of n texts, not standardised, shape (n, len(CONTENT_NAMES))."""
        requests = [request_and_paste(encodable(text))[0] for text in texts]
        ids = _token_ids(self._asset.tokenizer, requests)
        counts = np.stack([self._asset.counts.take(tokens or [0], axis=0).sum(axis=0) for tokens in ids])
        return count_features(counts, requests)

    def read(self, texts: Sequence[str]) -> Content:
        """Read n texts of any length and content.

        Raises:
            EmbeddingError: the tokenizer failed.
        """
        asset = self._asset
        parts = [request_and_paste(encodable(text)) for text in texts]
        requests = [request for request, _ in parts]
        ids = _token_ids(asset.tokenizer, requests)
        pasted = [row for row, (_, paste) in enumerate(parts) if paste]
        paste_ids = dict(zip(pasted, _token_ids(asset.tokenizer, [parts[row][1] for row in pasted]), strict=True))
        n = len(texts)
        sums, counts = np.empty((n, asset.vectors.shape[1]), np.float32), np.empty((n, len(COUNT_NAMES)), np.float32)
        word_score = np.empty(n, np.float32)
        for row, tokens in enumerate(ids):
            some = tokens or [0]
            sums[row] = asset.vectors.take(some, axis=0).sum(axis=0)
            counts[row] = asset.counts.take(some, axis=0).sum(axis=0)
            distinct = list(set(some))
            word_score[row] = asset.word_weights.take(distinct).sum() / np.sqrt(len(distinct))
            if paste := paste_ids.get(row):
                share = _PASTE_WEIGHT * len(some) / len(paste)
                sums[row] += share * asset.vectors.take(paste, axis=0).sum(axis=0)
        norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        semantic = sums * (np.sqrt(np.float32(sums.shape[1])) / norms)
        features = (count_features(counts, requests) - asset.means) / asset.scales
        return Content(ids, semantic, np.clip(features, -_CLIP, _CLIP), word_score)


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    try:
        if len(texts) == 1:  # no thread pool for a single chat call
            return [tokenizer.encode(texts[0], add_special_tokens=False).ids]
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    except Exception as error:  # tokenizers raises bare Exception
        raise EmbeddingError(
            f"the static embedder could not tokenise a batch of {len(texts)} texts: {error}"
        ) from error


def _load_asset(folder: Path) -> _Asset:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vectors = tensors["table"].astype(np.float32) * tensors["scale"].astype(np.float32)[:, None]
        asset = _Asset(
            name=str(config["name"]),
            vectors=vectors,
            counts=tensors["counts"].astype(np.float32),
            word_weights=tensors["word_weights"].astype(np.float32),
            means=tensors["means"],
            scales=tensors["scales"],
            heads={key.removeprefix("heads."): value for key, value in tensors.items() if key.startswith("heads.")},
            tokenizer=tokenizer,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"the static embedding in {folder} cannot be read ({error}); it needs config.json, model.safetensors and "
            "tokenizer.json. Reinstall routellm-core or make the asset again"
        ) from error
    except Exception as error:  # tokenizers raises bare Exception for an unreadable file
        raise CheckpointError(f"the tokenizer of the static embedding in {folder} cannot be read: {error}") from error
    if asset.means.shape != (content_dimension(),) or asset.counts.shape != (len(vectors), len(COUNT_NAMES)):
        raise CheckpointError(f"{folder} describes other content features than this version of the code computes")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return asset


_assets: dict[Path, _Asset] = {}
_assets_lock = threading.Lock()


def _shared_asset(folder: Path) -> _Asset:
    """Load a folder once per process: several routers and threads share the table."""
    with _assets_lock:
        if folder not in _assets:
            _assets[folder] = _load_asset(folder)
        return _assets[folder]
