"""Distil the token table of the static embedding from all-MiniLM-L6-v2.

The method is model2vec's: every vocabulary token is encoded alone, the vectors are centred and projected on their
first principal components, and each is weighted by its log rank (the vocabulary is sorted by frequency, so that is
close to an inverse-frequency weight). The result depends on nothing but the model's weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra

__all__ = ["principal_table", "quantise", "slim_tokenizer", "token_vectors"]

_BATCH: Final = 1024
_Floats = npt.NDArray[np.float32]


def token_vectors(folder: Path) -> _Floats:
    """Encode every token of the vocabulary alone, ``[CLS] token [SEP]``, mean-pooled; (V, 384).

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    torch = import_extra("torch", extra="torch", purpose="Distilling the static embedding")
    transformers = import_extra("transformers", extra="torch", purpose="Distilling the static embedding")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    size = model.config.vocab_size
    inputs = torch.stack([torch.full((size,), 101), torch.arange(size), torch.full((size,), 102)], dim=1)

    def batches() -> Iterator[_Floats]:
        with torch.inference_mode():
            for start in range(0, size, _BATCH):
                yield model(input_ids=inputs[start : start + _BATCH]).last_hidden_state.mean(dim=1).numpy()

    return np.concatenate(list(batches()))


def principal_table(vectors: _Floats, *, dimension: int) -> _Floats:
    """Centre, project on the first ``dimension`` principal components and weight by log rank; (V, dimension)."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :dimension]
    # The sign of an eigenvector is arbitrary; fix it, so that every run and every BLAS gives the same table.
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dimension)])
    weights = np.log(np.arange(len(vectors)) + 2.0)
    table: _Floats = ((centred @ directions) * weights[:, None]).astype(np.float32)
    return table


def quantise(table: _Floats) -> dict[str, npt.NDArray[Any]]:
    """Round to int8 with one scale per row: ``table`` (V, d) int8 and ``scale`` (V,) float32."""
    scale = np.maximum(np.abs(table).max(axis=1), 1e-8) / 127.0
    return {
        "table": np.round(table / scale[:, None]).astype(np.int8),
        "scale": scale.astype(np.float32),
    }


def slim_tokenizer(folder: Path) -> str:
    """The tokenizer without padding and truncation settings and without indentation."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["padding"] = tokenizer["truncation"] = tokenizer["post_processor"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
