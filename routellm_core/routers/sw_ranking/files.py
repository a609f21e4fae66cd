"""A battle index as a folder: ``config.json`` and ``index.safetensors``. No pickles, no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from routellm_core._files import read_json, read_safetensors
from routellm_core.errors import CheckpointError, ConfigError
from routellm_core.routers.sw_ranking.index import BattleBlock, BattleIndex
from routellm_core.routers.sw_ranking.similarity import StorageType, StoredEmbeddings
from routellm_core.types import FloatArray

__all__ = ["ARRAYS_FILE", "CONFIG_FILE", "SavedIndex", "checked_quantiles", "index_digest", "read_index", "write_index"]

CONFIG_FILE, ARRAYS_FILE = "config.json", "index.safetensors"
_FORMAT, _VERSION = "routellm-sw-index", 1


def index_digest(index: BattleIndex) -> str:
    """Return 32 hexadecimal digits that change with any battle, embedding, tier or fitting option."""
    digest = hashlib.blake2b(digest_size=16)
    facts = [list(index.models), sorted(index.tiers.items()), index.num_tiers, index.count_self_battles]
    digest.update(json.dumps(facts).encode())
    for block in index.blocks:
        arrays: list[npt.NDArray[Any] | None] = [block.model_a, block.model_b, block.outcome]
        for array in [*arrays, block.embeddings.values, block.embeddings.steps, block.weights]:
            if array is not None:
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def write_index(
    index: BattleIndex, folder: Path, *, facts: Mapping[str, Any], storage_type: StorageType | None = None
) -> None:
    """Write ``index`` to ``folder``, which is made where it is missing.

    Args:
        index: what to write.
        folder: where to.
        facts: further entries of ``config.json`` (embedder, scored pair …), JSON-ready.
        storage_type: convert the embeddings to this type; None keeps theirs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small = np.int16 if len(index.models) < np.iinfo(np.int16).max else np.int32
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, block in enumerate(index.blocks):
        stored = block.embeddings.converted(storage_type or block.embeddings.storage_type)
        arrays[f"blocks.{number}.embeddings"] = stored.values
        if stored.steps is not None:
            arrays[f"blocks.{number}.steps"] = stored.steps
        arrays[f"blocks.{number}.model_a"] = block.model_a.astype(small)
        arrays[f"blocks.{number}.model_b"] = block.model_b.astype(small)
        arrays[f"blocks.{number}.outcome"] = block.outcome
        if block.weights is not None:
            arrays[f"blocks.{number}.weights"] = block.weights
    save_file(arrays, folder / ARRAYS_FILE)
    config = {
        "format": _FORMAT,
        "version": _VERSION,
        "blocks": len(index.blocks),
        "battles": index.rows,
        "dimension": index.dimension,
        "num_tiers": index.num_tiers,
        "count_self_battles": index.count_self_battles,
        "models": list(index.models),
        "model2tier": index.tiers,
        **facts,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class SavedIndex:
    """What a folder holds.

    Attributes:
        index: the battles.
        pair: the strong and the weak model that it was made to score.
        embedder: the name of the embedder behind its embeddings.
        reference_quantiles: score quantiles for ``pair``, shape (1001,), or None.
    """

    index: BattleIndex
    pair: tuple[str, str]
    embedder: str
    reference_quantiles: FloatArray | None


def read_index(folder: Path, *, num_tiers: int | None = None, count_self_battles: bool | None = None) -> SavedIndex:
    """Read an index that :func:`write_index` wrote.

    Args:
        folder: the folder.
        num_tiers: replaces the saved number; tiers are then computed anew, and saved quantiles dropped.
        count_self_battles: replaces the saved choice, with the same consequences.

    Raises:
        CheckpointError: a file is missing, truncated, of another format, or an array is missing or of the wrong shape;
            the file is named.
    """
    config = read_json(folder / CONFIG_FILE)
    if config.get("format") != _FORMAT or config.get("version") != _VERSION:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is not a similarity index of version {_VERSION} "
            f"(format {config.get('format')!r}, version {config.get('version')!r})"
        )
    arrays = read_safetensors(folder / ARRAYS_FILE)
    try:
        tiers = int(config["num_tiers"] if num_tiers is None else num_tiers)
        counted = bool(config["count_self_battles"] if count_self_battles is None else count_self_battles)
        unchanged = (tiers, counted) == (config["num_tiers"], config["count_self_battles"])
        models = [str(name) for name in config["models"]]
        blocks = [_block(arrays, number, len(models), int(config["dimension"])) for number in range(config["blocks"])]
        saved = {str(name): int(tier) for name, tier in config["model2tier"].items()}
        if not all(name in models and 0 <= tier < config["num_tiers"] for name, tier in saved.items()):
            raise ValueError("model2tier names an unknown model or tier")
        index = BattleIndex(
            models, blocks, saved, num_tiers=int(config["num_tiers"]), count_self_battles=config["count_self_battles"]
        )
        if not unchanged:
            index = index.retiered(tiers, counted)
        pair = (str(config["strong_model"]), str(config["weak_model"]))
        quantiles = config.get("reference_quantiles") if unchanged else None
        checked = None if quantiles is None else checked_quantiles(np.asarray(quantiles, dtype=np.float64))
        return SavedIndex(index, pair, str(config["embedder"]), checked)
    except KeyError as error:
        name = str(error.args[0])
        file = ARRAYS_FILE if name.startswith("blocks.") else CONFIG_FILE
        raise CheckpointError(f"{folder / file} has no {name!r}") from error
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: {ARRAYS_FILE} and {CONFIG_FILE} do not fit together: {error}") from error


def _block(arrays: Mapping[str, npt.NDArray[Any]], number: int, models: int, dimension: int) -> BattleBlock:
    prefix = f"blocks.{number}."
    values = arrays[prefix + "embeddings"]
    steps = arrays[prefix + "steps"] if values.dtype == np.int8 else None
    stored = StoredEmbeddings(values, steps)
    if values.ndim != 2 or values.shape[1] != dimension or not len(values):
        raise ValueError(f"{prefix}embeddings has shape {values.shape}, expected (n, {dimension})")
    _ = stored.storage_type  # raises for a type that no writer produces
    columns = {}
    for name, limit in (("model_a", models), ("model_b", models), ("outcome", 3)):
        column = arrays[prefix + name]
        if column.shape != (len(values),) or column.min() < 0 or column.max() >= limit:
            raise ValueError(f"{prefix}{name} must hold {len(values)} integers from 0 to {limit - 1}")
        columns[name] = column
    weights = arrays.get(prefix + "weights")
    if weights is not None and not (
        weights.shape == (len(values),) and np.isfinite(weights).all() and (weights > 0.0).all()
    ):
        raise ValueError(f"{prefix}weights must hold {len(values)} positive, finite numbers")
    if steps is not None and steps.shape != (len(values),):
        raise ValueError(f"{prefix}steps has shape {steps.shape}, expected ({len(values)},)")
    if steps is not None and not np.isfinite(steps).all():
        raise ValueError(f"{prefix}steps holds a value that is not finite")
    return BattleBlock(
        stored,
        columns["model_a"].astype(np.int32),
        columns["model_b"].astype(np.int32),
        columns["outcome"].astype(np.int8),
        None if weights is None else weights.astype(np.float32),
    )


def checked_quantiles(quantiles: FloatArray) -> FloatArray:
    """Return quantiles as they are if they are 1001 ascending numbers in [0, 1].

    Raises:
        CheckpointError: they are not.
    """
    if quantiles.shape != (1001,) or not (np.diff(quantiles) >= 0).all() or quantiles[0] < 0 or quantiles[-1] > 1:
        raise CheckpointError("reference_quantiles must be 1001 ascending numbers in [0, 1]")
    return quantiles
