"""The embedded default: token vectors from a table, averaged. Needs numpy and tokenizers, no model and no download.

The table is distilled from all-MiniLM-L6-v2 by :mod:`research.distill_static` (the method of model2vec:
every vocabulary token encoded alone, centred, projected on principal components, weighted by log rank) and stored as
int8 with one scale per token. A prompt costs a tokenisation and a mean.
"""

from __future__ import annotations

import json
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

from routellm_core.embeddings.base import Embeddings, encodable
from routellm_core.embeddings.surface import clipped_text, standardised_surface, surface_dimension
from routellm_core.errors import CheckpointError, EmbeddingError

__all__ = ["STATIC_FOLDER", "StaticEmbedder"]

STATIC_FOLDER: Final = Path(__file__).resolve().parent.parent / "assets" / "static_v1"
_BATCH_TEXTS: Final = 512


@dataclass(frozen=True, slots=True)
class _StaticTable:
    """A loaded asset: ``vectors`` has shape (V, d), row 0 stands for a text without tokens."""

    name: str
    semantic_scale: float
    vectors: npt.NDArray[np.float32]
    tokenizer: Any


def _load_table(folder: Path) -> _StaticTable:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vectors = tensors["table"].astype(np.float32) * tensors["scale"].astype(np.float32)[:, None]
        name, scale = str(config["name"]), float(config["semantic_scale"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"the static embedding in {folder} cannot be read ({error}); it needs config.json, model.safetensors with "
            "'table' and 'scale', and tokenizer.json. Reinstall routellm-core or distil the asset again"
        ) from error
    except Exception as error:  # tokenizers raises bare Exception for an unreadable file
        raise CheckpointError(f"the tokenizer of the static embedding in {folder} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _StaticTable(name=name, semantic_scale=scale, vectors=vectors, tokenizer=tokenizer)


class StaticEmbedder:
    """Static token embedding, surface features and a constant 1.

    A vector is ``[semantic part, standardised surface features, 1]``. The semantic part is the mean of the token
    vectors, scaled to length ``semantic_scale``, the square root of its dimension, so that a component is of order 1.

    Of a text longer than 4,000 characters the first 3,000 and the last 1,000 are read, so a prompt of 1 MB costs no
    more than one of 4 kB; its length still counts in the surface features.

    Args:
        folder: a folder written by ``research.distill_static``; the shipped one by default.
    """

    def __init__(self, *, folder: str | Path | None = None) -> None:
        self._folder = (STATIC_FOLDER if folder is None else Path(folder)).resolve()

    @property
    def _table(self) -> _StaticTable:
        return _shared_table(self._folder)

    @property
    def name(self) -> str:
        """The asset's name, such as ``"static-v1"``."""
        return self._table.name

    @property
    def dimension(self) -> int:
        """Length of a vector: semantic part, surface features, constant."""
        return int(self._table.vectors.shape[1]) + surface_dimension() + 1

    @property
    def prompt_limit(self) -> str:
        """How a long text is treated."""
        return "Of a prompt over 4,000 characters the first 3,000 and the last 1,000 are read, and its length counts."

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch.

        Args:
            texts: n texts, of any length and content; may be empty.

        Returns:
            shape (n, dimension), float32.

        Raises:
            EmbeddingError: the tokenizer failed.
            CheckpointError: the asset is missing or damaged.
        """
        table = self._table
        semantic = table.vectors.shape[1]
        vectors = np.ones((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch = texts[start : start + _BATCH_TEXTS]
            rows = slice(start, start + len(batch))
            vectors[rows, :semantic] = _mean_vectors(table, batch)
            vectors[rows, semantic:-1] = standardised_surface(batch)
        return vectors


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    views = [encodable(clipped_text(text)) for text in texts]
    try:
        if len(views) == 1:  # no thread pool for a single chat call
            return [tokenizer.encode(views[0], add_special_tokens=False).ids]
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(views, add_special_tokens=False)]
    except Exception as error:  # tokenizers raises bare Exception
        raise EmbeddingError(
            f"the static embedder could not tokenise a batch of {len(texts)} texts: {error}"
        ) from error


def _mean_vectors(table: _StaticTable, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Mean token vector of each text, scaled to length ``semantic_scale``; (n, d)."""
    sums = np.empty((len(texts), table.vectors.shape[1]), dtype=np.float32)
    for row, ids in enumerate(_token_ids(table.tokenizer, texts)):
        # One text at a time, so that the gathered vectors of a batch of long prompts are never all in memory.
        sums[row] = table.vectors.take(ids or [0], axis=0).sum(axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = sums * (table.semantic_scale / np.maximum(norms, 1e-6))
    return scaled


_tables: dict[Path, _StaticTable] = {}
_tables_lock = threading.Lock()


def _shared_table(folder: Path) -> _StaticTable:
    """Load a folder once per process: several routers and threads share the table."""
    with _tables_lock:
        if folder not in _tables:
            _tables[folder] = _load_table(folder)
        return _tables[folder]
