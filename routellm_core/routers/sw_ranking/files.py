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
from routellm_core.routers.reference import checked_quantiles
from routellm_core.routers.sw_ranking.index import BattleBlock, BattleIndex
from routellm_core.routers.sw_ranking.storage import SMALL_INDEX_BYTES, StoredEmbeddings
from routellm_core.types import FloatArray

__all__ = ["ARRAYS_FILE", "CONFIG_FILE", "SavedIndex", "index_digest", "read_index", "write_index"]

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


def write_index(index: BattleIndex, folder: Path, *, facts: Mapping[str, Any]) -> None:
    """Write ``index`` to ``folder``; ``facts`` are further entries of ``config.json`` (embedder, scored pair …)."""
    folder.mkdir(parents=True, exist_ok=True)
    small = np.int16 if len(index.models) < np.iinfo(np.int16).max else np.int32
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, block in enumerate(index.blocks):
        stored = block.embeddings
        arrays[f"blocks.{number}.embeddings"] = stored.values
        if stored.steps is not None:
            arrays[f"blocks.{number}.steps"] = stored.steps
        arrays[f"blocks.{number}.model_a"] = block.model_a.astype(small)
        arrays[f"blocks.{number}.model_b"] = block.model_b.astype(small)
        arrays[f"blocks.{number}.outcome"] = block.outcome
        if block.weights is not None:
            arrays[f"blocks.{number}.weights"] = block.weights
    # Beside the old file, then in its place: the old one may be mapped by this index itself.
    new = folder / f".{ARRAYS_FILE}.new"
    save_file(arrays, new)
    new.replace(folder / ARRAYS_FILE)
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
    """What a folder holds."""

    index: BattleIndex  # the battles
    pair: tuple[str, str]  # the strong and the weak model that it was made to score
    embedder: str  # the name of the embedder behind its embeddings
    reference_quantiles: FloatArray | None  # score quantiles for ``pair``, shape (1001,), or None


def read_index(folder: Path, *, num_tiers: int | None = None, count_self_battles: bool | None = None) -> SavedIndex:
    """Read an index that :func:`write_index` wrote; for other options, tiers are found anew and quantiles dropped.

    Raises CheckpointError, with the file, where one is missing, truncated, of another format, or lacks an array.
    """
    config = read_json(folder / CONFIG_FILE)
    if config.get("format") != _FORMAT or config.get("version") != _VERSION:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is not a similarity index of version {_VERSION} "
            f"(format {config.get('format')!r}, version {config.get('version')!r})"
        )
    arrays = read_safetensors(folder / ARRAYS_FILE, mapped_from=SMALL_INDEX_BYTES)
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
        quantiles = checked_quantiles(config.get("reference_quantiles"), source=folder / CONFIG_FILE)
        return SavedIndex(index, pair, str(config["embedder"]), quantiles if unchanged else None)
    except KeyError as error:
        name = str(error.args[0])
        file = ARRAYS_FILE if name.startswith("blocks.") else CONFIG_FILE
        raise CheckpointError(f"{folder / file} has no {name!r}") from error
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: {ARRAYS_FILE} and {CONFIG_FILE} do not fit together: {error}") from error


def _block(arrays: Mapping[str, npt.NDArray[Any]], number: int, models: int, dimension: int) -> BattleBlock:
    prefix = f"blocks.{number}."
    values = arrays[prefix + "embeddings"]
    stored = StoredEmbeddings(values, arrays[prefix + "steps"] if values.dtype == np.int8 else None)
    if values.ndim != 2 or values.shape[1] != dimension or not len(values):
        raise ValueError(f"{prefix}embeddings has shape {values.shape}, expected (n, {dimension})")
    _ = stored.storage_type  # raises for a type that no writer produces
    columns = {}
    for name, limit in (("model_a", models), ("model_b", models), ("outcome", 3)):
        column = columns[name] = arrays[prefix + name]
        if column.shape != (len(values),) or column.min() < 0 or column.max() >= limit:
            raise ValueError(f"{prefix}{name} must hold {len(values)} integers from 0 to {limit - 1}")
    weights = arrays.get(prefix + "weights")
    for name, numbers in (("steps", stored.steps), ("weights", weights)):
        if numbers is not None and not (
            numbers.shape == (len(values),) and np.isfinite(numbers).all() and (numbers > 0.0).all()
        ):
            raise ValueError(f"{prefix}{name} must hold {len(values)} positive, finite numbers")
    return BattleBlock(
        stored,
        columns["model_a"].astype(np.int32),
        columns["model_b"].astype(np.int32),
        columns["outcome"].astype(np.int8),
        None if weights is None else weights.astype(np.float32),
    )
