"""The ``sw_ranking`` index that ships: ordinary prompts, each a battle between a strong and a weak tier.

The strong tier wins the half of the prompts where the judge foresaw the larger lead; the router's opinion of a new
prompt is that of the prompts which resemble it, not that of ``mf``'s heads. Whether one model beat another on a prompt,
the outcome of votes, is nearly all noise and does not carry over to unseen tests (docs/training-notes.md).
"""

from __future__ import annotations

import json
import logging
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.judged import JudgedRows
from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.routers.sw_ranking.battles import BattleTable
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.training.matrix_factorization import reference_quantiles

__all__ = ["STRONG", "WEAK", "train_shipped_sw"]

logger = logging.getLogger(__name__)
STRONG, WEAK = "strong-tier", "weak-tier"
_STEP: Final = 2
"""Every second prompt by foreseen lead becomes a battle; the others are the reference traffic of the quantiles."""


def train_shipped_sw(judged: JudgedRows, embedder: Embedder, folder: Path) -> dict[str, Any]:
    """Choose the battles and write the index with its card.

    Returns:
        the facts of ``training.json``.
    """
    chat = np.flatnonzero(~np.isnan(judged.lead) & ~judged.translated)
    traffic = embedder.embed([judged.prompts[row] for row in chat])
    router, kept = _index(traffic, judged.lead[chat], embedder)
    reference = np.delete(traffic, kept, axis=0)
    scores = np.asarray(router.score_embeddings(reference), dtype=np.float64)
    facts = {
        "command": f"python -m research.shipped {folder.name}",
        "battles": len(kept),
        "labels": "lead of the strong answer judged by an LLM from the prompt, no outcome of any model",
        "licences": sorted({judged.licences[row] for row in chat}),
        "random_seed": None,
        "reference_traffic": f"{len(reference)} other judged chat prompts",
        "rank_correlation_with_mf_on_reference": round(_rank_correlation(scores, reference[:, -2]), 3),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    router.save(folder, dtype="int8", reference_quantiles=reference_quantiles(scores))
    _slim_quantiles(folder / "config.json")
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(folder, embedder.name, facts), encoding="utf-8")
    logger.info("wrote %s: %s", folder.name, facts)
    return facts


def _rank_correlation(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


def _index(
    traffic: Embeddings, lead: npt.NDArray[np.float64], embedder: Embedder
) -> tuple[SimilarityWeightedRouter, npt.NDArray[np.int64]]:
    """Build the index; return it with the rows of ``traffic`` (n, d) that it keeps."""
    kept = np.argsort(-lead, kind="stable")[::_STEP]
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
    lines = [
        f"# {folder.name}",
        "",
        f"A similarity-weighted index on the embedder `{embedder}`. Each of its {facts['battles']} battles is a chat "
        "prompt: the strong tier wins the half where the foreseen lead of the strong answer is larger, the weak tier "
        "the other. The leads are judged by an LLM from the prompt, no vote and no answer is used: **this is no "
        "independent source of evidence beside `mf`**, only another way to read part of it. Rank correlation with `mf` "
        f"on other prompts: {facts['rank_correlation_with_mf_on_reference']}. The score's level, near one half, is a "
        "convention. Choose thresholds by share of strong calls. Weights: Apache-2.0.",
        "",
        f"- Command: `{facts['command']}`",
        "- Random seed: none is needed, the choice of prompts is fixed",
        f"- Labels: {facts['labels']}",
        f"- Licences of the prompts: {', '.join(facts['licences'])}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}",
        f"- Reference traffic of the quantiles: {facts['reference_traffic']}",
    ]
    if benchmarks:
        lines += ["", "## Benchmarks", "", str(benchmarks["note"]), ""]
        lines += ["| test | APGR | 95 % interval | prompt length alone |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {row['apgr']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['length']:.3f} |"
            for name, row in benchmarks["apgr"].items()
        ]
    return "\n".join(lines) + "\n"
