"""What own labels are worth: true APGR of ``train mf --from default`` on 100, 300 and 1,000 rows.

    python benchmarks/training/learning_curve.py --shared ../shared --json benchmarks/results/training_curve.json

Rows are drawn at random (of chat, whole conversations) from MMLU, GSM8K (GPT-4 against Mixtral, right or wrong) and
SysBench (GPT-4o against GPT-3.5, share of constraints met); APGR is that of the written router on all other rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from samples import Precomputed, load, true_apgr

from routellm_core.errors import ConfigError
from routellm_core.metrics.held_out import LENGTH, SHIPPED, TRAINED, length_scores
from routellm_core.routers.mf.checkpoint import MfCheckpoint
from routellm_core.training.train_mf import train_matrix_factorization

SIZES = (100, 300, 1000)
DATA = ("mmlu", "gsm8k", "chat")


def curve(name: str, shared: Path, samples: int) -> list[dict[str, Any]]:
    """Return a row for each size: mean APGR of every router, and how the trained one compares with the shipped one."""
    population = load(name, shared)
    embedder = Precomputed("default", population.prompts)
    vectors = embedder.embed(population.prompts).astype(np.float64)
    checkpoint = MfCheckpoint.load("default")
    others = {SHIPPED: vectors @ checkpoint.fold(*checkpoint.pair), LENGTH: length_scores(population.prompts)}
    gain = population.quality[:, 0] - population.quality[:, 1]
    pair = {"strong_model": population.models[0], "weak_model": population.models[1]}
    found = []
    for n in (size for size in SIZES if size < 0.8 * len(gain)):
        figures: list[dict[str, float]] = []
        refused = 0
        for seed in range(samples):
            generator = np.random.default_rng([seed, n])
            chosen, rest = population.drawn(generator, n)
            figures.append({other: true_apgr(scores[rest], gain[rest]) for other, scores in others.items()})
            folder = Path(tempfile.mkdtemp()) / "router"
            try:
                rows = population.rows(chosen, generator)
                train_matrix_factorization(rows, output=folder, embedder=embedder, seed=seed, **pair)
                scores = vectors[rest] @ MfCheckpoint.load(folder).fold(*population.models[:2])
                figures[-1][TRAINED] = true_apgr(scores, gain[rest])
            except ConfigError:
                refused += 1
                figures[-1][TRAINED] = figures[-1][SHIPPED]  # who is refused keeps the shipped router
            shutil.rmtree(folder.parent)
        lead = np.array([row[TRAINED] - row[SHIPPED] for row in figures])
        found.append(
            {
                "data": name,
                "rows": n,
                "samples": samples,
                **{router: round(float(np.mean([row[router] for row in figures])), 4) for router in figures[0]},
                "lead": round(float(lead.mean()), 4),
                "lead_error": round(float(lead.std() / np.sqrt(samples)), 4),
                "not_worse": round(float((lead >= 0.0).mean()), 3),
                "refused": refused,
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Print every row, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    arguments = parser.parse_args()
    rows = [row for name in arguments.data for row in curve(name, arguments.shared, arguments.samples)]
    machine = f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    if arguments.json:
        report = {"date": datetime.date.today().isoformat(), "machine": machine, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
