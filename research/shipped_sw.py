"""The ``sw_ranking`` index that ships: ordinary prompts, each a battle between a strong and a weak tier.

Whether one model beat another on a prompt is nearly all noise, and an index of raw difficulties is pulled towards the
subjects of the exams that they come from: neither carries over to unseen tests (docs/training-notes.md). So the battles
are prompts of ordinary traffic, and the strong tier wins the half that the difficulty direction of ``mf`` finds harder.
"""

from __future__ import annotations

import json
import logging
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.difficulty import within_group_correlation
from research.pool import Pool
from research.shipped_direction import TRAFFIC_SOURCE, fit_difficulty, traffic_prompts
from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.routers.sw_ranking.battles import BattleTable
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.training.matrix_factorization import reference_quantiles

__all__ = ["STRONG", "WEAK", "train_shipped_sw"]

logger = logging.getLogger(__name__)
STRONG, WEAK = "strong-tier", "weak-tier"
_STEP: Final = 2
"""Every second prompt by difficulty becomes a battle; the others are the reference traffic of the quantiles."""


def train_shipped_sw(pool: Pool, embedder: Embedder, folder: Path) -> dict[str, Any]:
    """Choose the battles, measure with each source left out, and write the index with its card.

    Returns:
        the facts of ``training.json``.
    """
    fit = fit_difficulty(pool, embedder)
    traffic = embedder.embed(list(dict.fromkeys(traffic_prompts(pool))))
    correlations = {}
    for source in fit.sources:
        inside = fit.rows.unit == source
        router = _index(traffic, traffic @ fit.direction(without=source), embedder)[0]
        scores = np.asarray(router.score_embeddings(fit.embeddings[inside]), dtype=np.float64)
        correlations[source] = within_group_correlation(np.log(scores / (1 - scores)), fit.rows.select(inside))
        logger.info("without %s: %s", source, correlations[source])
    router, kept = _index(traffic, traffic @ fit.direction(), embedder)
    reference = np.delete(traffic, kept, axis=0)
    facts = {
        "command": f"python -m research.shipped {folder.name}",
        "battles": len(kept),
        "rows_by_source": {source: int((fit.rows.unit == source).sum()) for source in fit.sources},
        "licences": sorted(set(pool.prompts["data_licence"])),
        "random_seed": None,
        "reference_traffic": f"{len(reference)} other prompts of LMSYS Chatbot Arena ({TRAFFIC_SOURCE}, Apache-2.0)",
        "held_out_source_correlation": correlations,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    quantiles = reference_quantiles(np.asarray(router.score_embeddings(reference)))
    router.save(folder, dtype="int8", reference_quantiles=quantiles)
    _slim_quantiles(folder / "config.json")
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(folder, embedder.name, facts), encoding="utf-8")
    return facts


def _index(
    traffic: Embeddings, difficulty: npt.NDArray[np.float64], embedder: Embedder
) -> tuple[SimilarityWeightedRouter, npt.NDArray[np.int64]]:
    """Build the index; return it with the rows of ``traffic`` (n, d) that it keeps."""
    kept = np.argsort(-difficulty, kind="stable")[::_STEP]
    half = len(kept) // 2
    kept = np.concatenate([kept[:half], kept[len(kept) - half :]])  # without the middle one of an odd number
    hard = np.arange(len(kept)) < half
    table = BattleTable(
        models=(STRONG, WEAK),
        model_a=np.zeros(len(kept), dtype=np.int32),
        model_b=np.ones(len(kept), dtype=np.int32),
        outcome=np.where(hard, 0, 1).astype(np.int8),
    )
    router = SimilarityWeightedRouter.from_arrays(
        table, traffic[kept], embedder=embedder, strong_model=STRONG, weak_model=WEAK, num_tiers=2, dtype="float32"
    )
    return router, kept


def _slim_quantiles(file: Path) -> None:
    """Write the configuration without a line per quantile."""
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(config, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(folder: Path, embedder: str, facts: dict[str, Any]) -> str:
    file = folder / "benchmarks.json"
    benchmarks = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    held_out = facts["held_out_source_correlation"]
    lines = [
        f"# {folder.name}",
        "",
        f"A similarity-weighted index on the embedder `{embedder}`. Each of its {facts['battles']} battles is a prompt "
        "of ordinary traffic: the strong tier wins the half that the difficulty direction of `mf` finds harder, the "
        "weak tier the other. No vote or answer of these prompts is used. "
        "The score therefore orders prompts by difficulty; its level, near one half, is a convention and not the win "
        "rate of a pair. Choose thresholds by share of strong calls. Weights: Apache-2.0.",
        "",
        f"- Command: `{facts['command']}`",
        "- Random seed: none is needed, the choice of prompts is fixed",
        f"- Licences of the rows: {', '.join(facts['licences'])}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}",
        f"- Reference traffic of the quantiles: {facts['reference_traffic']}",
        "",
        "| source of the difficulty direction | prompts | correlation with difficulty when held out |",
        "|---|---|---|",
        *(f"| {source} | {count} | {held_out[source]} |" for source, count in facts["rows_by_source"].items()),
    ]
    if benchmarks:
        lines += ["", "## Benchmarks", "", str(benchmarks["note"]), ""]
        lines += ["| test | APGR | 95 % interval | prompt length alone |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {row['apgr']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['length']:.3f} |"
            for name, row in benchmarks["apgr"].items()
        ]
    return "\n".join(lines) + "\n"
