"""The ``sw_ranking`` index that ships: some thousand prompts of the pool, each a battle between two tiers.

A battle says on which side of its source's middle a prompt's difficulty lies: harder prompts are won by the strong
tier, easier ones by the weak tier. Difficulty over many models transfers where the win of one pair does not
(docs/training-notes.md), and halves of equal size within each source keep the index from telling sources apart.
"""

from __future__ import annotations

import json
import logging
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.embeddings.base import Embedder, Embeddings
from routellm_core.routers.battles import BattleTable
from routellm_core.routers.similarity_weighted import SimilarityWeightedRouter
from routellm_core.training.matrix_factorization import reference_quantiles, within_group_correlation
from routellm_core.training.pool import Pool
from routellm_core.training.targets import DifficultyRows, difficulty_rows

__all__ = ["STRONG", "WEAK", "train_shipped_sw"]

logger = logging.getLogger(__name__)
STRONG, WEAK = "strong-tier", "weak-tier"
BATTLES: Final = 3400
_TRAFFIC_SOURCE: Final = "arena55k"
Bools = npt.NDArray[np.bool_]


def train_shipped_sw(pool: Pool, embedder: Embedder, folder: Path) -> dict[str, Any]:
    """Choose the battles, measure with each source left out, and write the index with its card.

    Returns:
        the facts of ``training.json``.
    """
    rows = difficulty_rows(pool, by_category=False)
    target = _target(rows, difficulty_rows(pool, by_category=True))
    embeddings = embedder.embed(rows.texts)
    correlations = {}
    for source in np.unique(rows.unit):
        outside = rows.unit != source
        router = _router(rows, target, embeddings, outside, embedder)[0]
        scores = np.asarray(router.score_embeddings(embeddings[~outside]), dtype=np.float64)
        correlations[str(source)] = within_group_correlation(np.log(scores / (1 - scores)), rows.select(~outside))
        logger.info("without %s: %s", source, correlations[str(source)])
    router, chosen = _router(rows, target, embeddings, np.ones(len(target), dtype=bool), embedder)
    prompts = pool.prompts
    traffic = prompts.loc[prompts["source"] == _TRAFFIC_SOURCE, "prompt"].tolist()
    facts = {
        "command": f"python -m routellm_core.training.shipped {folder.name}",
        "rows_by_source": {source: int((rows.unit[chosen] == source).sum()) for source in correlations},
        "licences": sorted(
            set(prompts.loc[prompts["prompt_id"].isin(np.array(rows.prompt_ids)[chosen]), "data_licence"])
        ),
        "random_seed": None,
        "reference_traffic": f"{len(traffic)} prompts of LMSYS Chatbot Arena ({_TRAFFIC_SOURCE}, Apache-2.0)",
        "held_out_source_correlation": correlations,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    router.save(folder, dtype="int8", reference_quantiles=reference_quantiles(np.asarray(router.score(traffic))))
    _slim_quantiles(folder / "config.json")
    (folder / "index.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(folder, embedder.name, facts), encoding="utf-8")
    return facts


def _target(rows: DifficultyRows, inner: DifficultyRows) -> npt.NDArray[np.float64]:
    """Difficulty within the source plus difficulty within the category, in standard deviations; NaN where unknown."""
    by_id = dict(zip(inner.prompt_ids, inner.target / inner.target.std(), strict=True))
    within_category = np.array([by_id.get(prompt_id, np.nan) for prompt_id in rows.prompt_ids])
    return np.asarray(rows.target / rows.target.std() + within_category, dtype=np.float64)


def _chosen(rows: DifficultyRows, target: npt.NDArray[np.float64], usable: Bools) -> tuple[list[int], list[bool]]:
    """Rows to keep and whether each is of its source's harder half; sources count as the square root of their size."""
    members = {}
    for source in np.unique(rows.unit[usable]):
        inside = np.flatnonzero(usable & (rows.unit == source) & np.isfinite(target))
        members[source] = inside[np.argsort(-target[inside], kind="stable")]
    total = sum(len(ordered) ** 0.5 for ordered in members.values())
    kept: list[int] = []
    hard: list[bool] = []
    for ordered in members.values():
        count = int(BATTLES * len(ordered) ** 0.5 / total / 2)
        middle = len(ordered) // 2
        for half, is_hard in ((ordered[:middle], True), (ordered[len(ordered) - middle :], False)):
            # Evenly over the half, from the most extreme to the middle.
            places = np.linspace(0, len(half) - 1, min(count, len(half))).astype(int)
            kept += half[places].tolist()
            hard += [is_hard] * len(places)
    return kept, hard


def _router(
    rows: DifficultyRows,
    target: npt.NDArray[np.float64],
    embeddings: Embeddings,
    usable: Bools,
    embedder: Embedder,
) -> tuple[SimilarityWeightedRouter, list[int]]:
    kept, hard = _chosen(rows, target, usable)
    table = BattleTable(
        models=(STRONG, WEAK),
        model_a=np.zeros(len(kept), dtype=np.int32),
        model_b=np.ones(len(kept), dtype=np.int32),
        outcome=np.where(hard, 0, 1).astype(np.int8),
    )
    router = SimilarityWeightedRouter.from_arrays(
        table, embeddings[kept], embedder=embedder, strong_model=STRONG, weak_model=WEAK, num_tiers=2, dtype="float32"
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
        f"A similarity-weighted index on the embedder `{embedder}`. Each prompt is a battle: the strong tier wins "
        "where models found the prompt harder than the middle of its source, the weak tier where they found it easier. "
        "The score therefore orders prompts by difficulty; its level, near one half, is a convention and not the win "
        "rate of a pair. Choose thresholds by share of strong calls. Weights: Apache-2.0.",
        "",
        f"- Command: `{facts['command']}`",
        "- Random seed: none is needed, the choice of prompts is fixed",
        f"- Licences of the rows: {', '.join(facts['licences'])}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}",
        f"- Reference traffic of the quantiles: {facts['reference_traffic']}",
        "",
        "| source | battles | correlation with difficulty when held out |",
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
