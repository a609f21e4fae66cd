"""Distil the static embedding from all-MiniLM-L6-v2.

    python -m research.distill_static --output DIR [--dimension 256]

The method is model2vec's: every vocabulary token is encoded alone, the vectors are centred and projected on their
first principal components, and each is weighted by its log rank (the vocabulary is sorted by frequency, so that is
close to an inverse-frequency weight). The result depends on nothing but the model's weights.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from routellm_core._optional import import_extra
from routellm_core.embeddings.minilm import MINILM_SHA256, minilm_folder

__all__ = ["distil", "main", "principal_table", "quantise", "token_vectors", "write_asset"]

logger = logging.getLogger(__name__)
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


def _slim_tokenizer(folder: Path) -> str:
    """The tokenizer without padding and truncation settings and without indentation."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["padding"] = tokenizer["truncation"] = tokenizer["post_processor"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


def write_asset(table: _Floats, *, model_folder: Path, output: Path, name: str = "static-v1") -> None:
    """Write an asset folder that ``StaticEmbedder`` loads.

    Args:
        table: (V, d) token vectors, row i for token id i.
        model_folder: where the tokenizer comes from.
        output: the folder to write; created if need be.
        name: the embedder's name that checkpoints record.
    """
    output.mkdir(parents=True, exist_ok=True)
    save_file(quantise(table), output / "model.safetensors")
    (output / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read
    (output / "tokenizer.json").write_text(_slim_tokenizer(model_folder), encoding="utf-8")
    config = {
        "name": name,
        "dimension": int(table.shape[1]),
        "semantic_scale": float(np.sqrt(table.shape[1])),
        "distilled_from": "sentence-transformers/all-MiniLM-L6-v2",
        "source_sha256": MINILM_SHA256,
        "licence": "Apache-2.0",
    }
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def distil(output: Path, *, dimension: int = 256) -> None:
    """Distil and write the asset."""
    folder = minilm_folder()
    logger.info("encoding the vocabulary of %s", folder.name)
    table = principal_table(token_vectors(folder), dimension=dimension)
    write_asset(table, model_folder=folder, output=output)
    logger.info("wrote %s: %d tokens × %d", output.name, *table.shape)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Distil the static embedding from all-MiniLM-L6-v2.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dimension", type=int, default=256)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    distil(options.output, dimension=options.dimension)


if __name__ == "__main__":
    main()
