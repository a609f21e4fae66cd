"""Regenerate what ships, one command per asset.

    python -m research.shipped surface     # means and scales of the surface features
    python -m research.shipped static      # the static embedding
    python -m research.shipped mf_static   # the embedded default router
    python -m research.shipped mf_minilm   # the router for the extra [minilm]
    python -m research.shipped sw_ranking  # the small similarity index
    python -m research.shipped all

Needs the training pool (see ``research.pool``). Nothing is random, so a run repeats to the last digit
that the machine's linear algebra repeats.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.cards import write_card
from research.difficulty import calibrate_slope, within_group_correlation
from research.distill_static import distil
from research.pool import Pool, load_pool
from research.shipped_direction import (
    LENGTH_PRIOR,
    PENALTY,
    TRAFFIC_SOURCE,
    UNIT_SPREAD,
    fit_difficulty,
    traffic_prompts,
)
from research.shipped_sw import train_shipped_sw
from research.targets import DifficultyRows
from routellm_core._files import ASSETS
from routellm_core.embeddings.base import Embedder
from routellm_core.embeddings.minilm import MiniLMEmbedder
from routellm_core.embeddings.static import STATIC_FOLDER, StaticEmbedder
from routellm_core.embeddings.surface import SURFACE_FILE, SURFACE_NAMES, surface_features
from routellm_core.training.matrix_factorization import (
    CheckpointFacts,
    reference_quantiles,
    write_checkpoint,
)

__all__ = ["main", "train_shipped_mf", "write_surface_moments"]

logger = logging.getLogger(__name__)
MEDIAN_SCORE: Final = 0.116
"""Score that half of ordinary traffic reaches, as with the published checkpoints."""
PAIR: Final = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
MIN_STRONG_ACCURACY: Final = 0.5


def write_surface_moments(pool: Pool, file: Path = SURFACE_FILE) -> None:
    """Write means and scales of the surface features; every source weighs as the square root of its size."""
    prompts = pool.prompts
    sizes = prompts["source"].map(prompts["source"].value_counts()).to_numpy(dtype=np.float64)
    weights = sizes**-0.5
    features = surface_features(prompts["prompt"].tolist()).astype(np.float64)
    means = np.average(features, axis=0, weights=weights)
    scales = np.sqrt(np.average((features - means) ** 2, axis=0, weights=weights))
    moments = {
        "names": list(SURFACE_NAMES),
        "means": [round(float(value), 6) for value in means],
        # A feature that the reference prompts (nearly) never show keeps a scale that lets it matter little.
        "scales": [round(max(float(value), 0.01), 6) for value in scales],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(moments, indent=1) + "\n", encoding="utf-8")


def train_shipped_mf(pool: Pool, embedder: Embedder, folder: Path) -> dict[str, Any]:
    """Train, calibrate and write one shipped router, with its card.

    Slope and intercept make a probability of the difficulty direction: the slope from pairs of models on prompts of
    sources that the direction was fitted without, the intercept from the median of ordinary traffic.

    Returns:
        the facts recorded under ``training`` in ``routing.json``.
    """
    fit = fit_difficulty(pool, embedder)
    rows = fit.rows
    held_out = np.empty(len(rows.texts))
    correlations = {}
    for source in fit.sources:
        inside = rows.unit == source
        held_out[inside] = fit.embeddings[inside] @ fit.direction(without=source)
        correlations[source] = within_group_correlation(held_out[inside], rows.select(inside))
    direction = fit.direction()
    slope, slope_error = _held_out_slope(pool, rows, held_out)
    traffic = embedder.embed(traffic_prompts(pool)) @ direction
    intercept = float(np.log(MEDIAN_SCORE / (1 - MEDIAN_SCORE)) - slope * np.median(traffic))
    vector = slope * direction
    vector[-1] += intercept
    scores = 1.0 / (1.0 + np.exp(-(slope * traffic + intercept)))
    facts = {
        "command": f"python -m research.shipped {folder.name}",
        "rows": len(rows.texts),
        "rows_by_source": {source: int((rows.unit == source).sum()) for source in fit.sources},
        "licences": sorted(set(pool.prompts["data_licence"])),
        "random_seed": None,
        "penalty": PENALTY,
        "unit_spread": UNIT_SPREAD,
        "length_prior": LENGTH_PRIOR,
        "slope": round(slope, 4),
        "slope_standard_error": round(slope_error, 4),
        "median_score_on_reference_traffic": MEDIAN_SCORE,
        "held_out_source_correlation": correlations,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    checkpoint = CheckpointFacts(
        embedder=embedder.name,
        strong_model=PAIR[0],
        weak_model=PAIR[1],
        reference_quantiles=reference_quantiles(scores),
        reference_traffic=f"{len(scores)} prompts of LMSYS Chatbot Arena ({TRAFFIC_SOURCE}, Apache-2.0)",
        training=facts,
    )
    write_checkpoint(folder, vector, checkpoint)
    write_card(folder, checkpoint)
    logger.info("wrote %s: slope %.3f ± %.3f", folder.name, slope, slope_error)
    return facts


def _held_out_slope(pool: Pool, rows: DifficultyRows, held_out: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope of "strong strictly wins" on held-out difficulty, for pairs that resemble a deployed one.

    Where even the strong model mostly fails, a harder prompt is a tie of two failures and its win rate *falls*; only
    pairs whose strong model solves at least half of the source say how a deployed pair behaves.
    """
    difficulty = dict(zip(rows.prompt_ids, held_out, strict=True))
    pairs = pool.pairs[pool.pairs["prompt_id"].isin(difficulty)]
    stratum = pairs["source"].astype(str) + "|" + pairs["strong"].astype(str) + "|" + pairs["weak"].astype(str)
    able = pairs["strong_score"].groupby(stratum).transform("mean") >= MIN_STRONG_ACCURACY
    pairs, stratum = pairs[able], stratum[able]
    return calibrate_slope(
        pairs["prompt_id"].map(difficulty).to_numpy(dtype=np.float64),
        (pairs["winner"] == "strong").to_numpy(),
        stratum.to_numpy(dtype=str),
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Regenerate the shipped assets.")
    parser.add_argument("asset", choices=["surface", "static", "mf_static", "mf_minilm", "sw_ranking", "all"])
    asset = parser.parse_args(arguments).asset
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pool = load_pool()
    if asset in ("surface", "all"):
        write_surface_moments(pool)
    if asset in ("static", "all"):
        distil(STATIC_FOLDER)
    if asset in ("mf_static", "all"):
        train_shipped_mf(pool, StaticEmbedder(), ASSETS / "mf_static")
    if asset in ("mf_minilm", "all"):
        train_shipped_mf(pool, MiniLMEmbedder(), ASSETS / "mf_minilm")
    if asset in ("sw_ranking", "all"):
        train_shipped_sw(pool, StaticEmbedder(), ASSETS / "sw_ranking")


if __name__ == "__main__":
    main()
