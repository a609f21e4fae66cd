"""The training pool: prompts with the scores of many models, filtered by the licence of each row.

Reads the three parquet files described in the pool's own README: prompts, scores (one row per prompt and model) and
pairs (one row per prompt and strong/weak pair).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError

__all__ = ["ALLOWED_LICENCES", "Pool", "licence_allows", "load_pool", "shared_folder"]

ALLOWED_LICENCES: Final = frozenset(
    {
        "Apache-2.0",
        "CC-BY-4.0",
        "MIT",
        "MIT (AGIEval)",
        "MIT (MATH)",
        "MIT (benchmark), Apache-2.0 (repo)",
    }
)
"""Licence statements that allow training, spelled exactly as the pool spells them.

A list of what is allowed, not of what is refused: a statement that nobody has read stays out. Left out on purpose are
CC-BY-SA (share-alike), AFL, "unstated", "MIT (repo); underlying benchmarks mixed" and "Apache-2.0 (benchmark); results
repo has no licence file" (the questions are free, the models' results are not licensed).
"""


@dataclass(frozen=True)
class Pool:
    """The pool as data frames, each row licensed for training.

    Attributes:
        prompts: prompt_id, source, category, data_licence, prompt …
        scores: prompt_id, model, score in [0, 1].
        pairs: prompt_id, source, strong, weak, strong_score, weak_score, winner.
    """

    prompts: Any
    scores: Any
    pairs: Any


def licence_allows(statement: str) -> bool:
    """Whether rows under this licence statement may be trained on."""
    return statement.strip() in ALLOWED_LICENCES


def shared_folder() -> Path:
    """The folder with the shared data: the environment variable ``ROUTELLM_SHARED``, or ``../shared``.

    Raises:
        ConfigError: it does not exist.
    """
    folder = Path(os.environ.get("ROUTELLM_SHARED", "../shared"))
    if not folder.is_dir():
        raise ConfigError(f"no folder {str(folder)!r}; set ROUTELLM_SHARED to the folder that holds the training data")
    return folder


def load_pool(folder: Path | None = None, *, licensed_only: bool = True) -> Pool:
    """Load the pool.

    Args:
        folder: the folder with the three parquet files; ``data/pool_train`` of :func:`shared_folder` by default.
        licensed_only: drop rows whose licence does not allow training. Turn it off only to *evaluate* on the rest.

    Raises:
        ConfigError: a file is missing.
        MissingExtraError: pandas or pyarrow is not installed.
    """
    pandas = import_extra("pandas", extra="train", purpose="Reading the training pool")
    folder = shared_folder() / "data" / "pool_train" if folder is None else folder
    frames = {}
    for name in ("prompts", "scores", "pairs"):
        file = folder / f"{name}.parquet"
        if not file.is_file():
            raise ConfigError(f"no file {str(file)!r}; a training pool has prompts, scores and pairs .parquet")
        frames[name] = pandas.read_parquet(file)
    prompts = frames["prompts"]
    if licensed_only:
        prompts = prompts[prompts["data_licence"].map(licence_allows)].reset_index(drop=True)
    kept = set(prompts["prompt_id"])
    scores = frames["scores"][frames["scores"]["prompt_id"].isin(kept)].reset_index(drop=True)
    pairs = frames["pairs"][frames["pairs"]["prompt_id"].isin(kept)].reset_index(drop=True)
    return Pool(prompts=prompts, scores=scores.astype({"score": "float64"}), pairs=pairs)
