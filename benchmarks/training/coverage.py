"""Are the held-out figures of ``routellm train`` true? Bias and coverage over many random samples of labelled rows.

    python benchmarks/training/coverage.py --shared ../shared --json benchmarks/results/training_coverage.json

A sample of n rows is drawn from a population, a router is trained on it by the public function, and what the training
reports (APGR, lead over the shipped router or prompt length, quality against the better single model) is compared with
the truth: the same figure of the *written* router on all rows outside the sample. Bars, fixed before the first run:
95 % intervals cover in 90 to 98 % of samples in every cell, |bias| of APGR and lead at most .01, no constant router.
Routers that would be refused, as worse than chance, are trained all the same and counted.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from samples import Population, Precomputed, load, true_apgr, with_signal

from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import LENGTH, SHIPPED, TRAINED, length_scores
from routellm_core.routers.mf.checkpoint import MfCheckpoint
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.rows.labelled import TrainingRows
from routellm_core.training import train_mf, train_sw
from routellm_core.training.base import measured

SIZES = {100: 1000, 200: 600, 300: 400, 500: 300, 1000: 200}
"""Rows, and samples of so many rows."""
SIGNALS = ("null", "weak", "strong", "measured")
FAMILIES = {"mf, pair": "mmlu", "mf, four models": "many", "sw_ranking": "mmlu"}
MOST_TESTED = 4000


def trained(
    family: str, population: Population, rows: TrainingRows, embedder: Precomputed, folder: Path, seed: int
) -> tuple[dict[str, Any], Any]:
    """Train, and return what is reported and the scorer of embeddings."""
    pair = {"strong_model": population.models[0], "weak_model": population.models[1]}
    if family == "sw_ranking":
        run = train_sw.train_similarity_index(rows, output=folder, embedder=embedder, seed=seed, **pair)
        return run.facts["held_out"], SimilarityWeightedRouter(
            checkpoint_path=folder, embedder=embedder
        ).score_embeddings
    run = train_mf.train_matrix_factorization(
        rows, output=folder, start="default", embedder=embedder, seed=seed, **pair
    )
    direction = MfCheckpoint.load(folder).fold(*population.models[:2])
    return run.facts["held_out"], lambda vectors: vectors @ direction


def sample_once(
    family: str, population: Population, vectors: np.ndarray, shipped: np.ndarray, n: int, seed: int, embedder: Any
) -> dict[str, Any] | None:
    """Draw, train and compare with the truth; None where the rows are refused unseen."""
    generator = np.random.default_rng([seed, n])
    chosen, rest = population.drawn(generator, n)
    rows = population.rows(chosen, generator)
    rest = rest[:MOST_TESTED] if family == "sw_ranking" else rest
    folder = Path(tempfile.mkdtemp())
    started = time.perf_counter()
    try:
        with patch.object(
            train_sw if family == "sw_ranking" else train_mf, "measured", partial(measured, refuse=False)
        ):
            reported, score = trained(family, population, rows, embedder, folder / "router", seed)
    except ConfigError:  # fewer than ten wins
        return None
    seconds = time.perf_counter() - started
    scores = np.asarray(score(vectors[rest]), dtype=np.float64)
    shutil.rmtree(folder)
    strong, weak = population.expected[rest, :2].T
    gain, other = strong - weak, LENGTH if family == "sw_ranking" else SHIPPED
    compared = length_scores([population.prompts[row] for row in rest]) if other == LENGTH else shipped[rest]
    truth = true_apgr(scores, gain)
    return {
        "refused": reported["apgr"][TRAINED]["high"] is not None and reported["apgr"][TRAINED]["high"] < 0.5,
        "seconds": seconds,
        "constant": bool(np.ptp(scores) < 1e-9),
        "apgr": (reported["apgr"][TRAINED], truth),
        "lead": (reported["lead"][other], truth - true_apgr(compared, gain)),
    }


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return bias and coverage of a cell."""
    cell: dict[str, Any] = {
        "samples": len(samples),
        "refused": sum(sample["refused"] for sample in samples),
        "constant": sum(sample["constant"] for sample in samples),
        "seconds": round(float(np.median([sample["seconds"] for sample in samples])), 3),
    }
    for figure in ("apgr", "lead"):
        pairs = [sample[figure] for sample in samples]
        errors = [row["value"] - truth for row, truth in pairs if row["value"] is not None]
        bounded = [row for row, _ in pairs if row["low"] is not None]
        covered = [row["low"] is None or row["low"] - 5e-5 <= truth <= row["high"] + 5e-5 for row, truth in pairs]
        cell[figure] = {
            "truth": round(float(np.mean([truth for _, truth in pairs])), 4),
            "bias": round(float(np.mean(errors)), 4),
            "bias_error": round(float(np.std(errors) / np.sqrt(len(errors))), 4),
            "coverage": round(sum(covered) / len(samples), 4),
            "unbounded": round(1.0 - len(bounded) / len(pairs), 3),
            "width": round(float(np.median([row["high"] - row["low"] for row in bounded])), 3) if bounded else None,
        }
    cell["lead"]["not_worse"] = round(float(np.mean([sample["lead"][1] >= 0.0 for sample in samples])), 3)
    return cell


def main() -> None:
    """Run every cell and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of samples; 0.05 takes a minute")
    parser.add_argument("--family", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    arguments = parser.parse_args()
    cells: list[dict[str, Any]] = []
    if arguments.json and arguments.json.is_file():
        cells = [
            row for row in json.loads(arguments.json.read_text())["cells"] if row["family"] not in arguments.family
        ]
    for family in arguments.family:
        original = load(FAMILIES[family], arguments.shared)
        embedder = Precomputed("default", original.prompts)
        vectors = embedder.embed(original.prompts).astype(np.float64)
        checkpoint = MfCheckpoint.load("default")
        shipped = vectors @ checkpoint.fold(*checkpoint.pair)
        for signal in SIGNALS:
            if signal == "measured" and family == "mf, four models":
                continue  # too few prompts outside a sample for a truth from labels
            population = with_signal(original, signal, vectors)
            for n, count in SIZES.items():
                samples = [
                    sample
                    for seed in range(max(10, round(count * arguments.scale)))
                    if (sample := sample_once(family, population, vectors, shipped, n, seed, embedder)) is not None
                ]
                cells.append({"family": family, "signal": signal, "rows": n, **summary(samples)})
                print(json.dumps(cells[-1]), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(_report(cells), indent=1) + "\n")


def _report(cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
        "cells": cells,
    }


if __name__ == "__main__":
    main()
