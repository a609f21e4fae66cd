"""The board: APGR with intervals, robustness and languages of everything that can score here, and of what others ship.

    python -m research.board --output docs/board.md

Reported, never used to choose anything.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.litellm_auto import LiteLLMHeuristicV1, LiteLLMHeuristicV2
from research.pool import shared_folder
from research.report import apgr, apgr_interval, benchmarks
from research.results_page import PromptLength
from routellm_core._optional import import_extra
from routellm_core.evals.robustness import check_robustness
from routellm_core.routers.base import Router
from routellm_core.routers.mf.router import MatrixFactorizationRouter
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter

__all__ = ["evaluation_sets", "language_table", "main"]

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]


def evaluation_sets() -> dict[str, tuple[list[str], Floats]]:
    """Prompts and gains of the benchmarks and of sets that nothing was fitted to."""
    pandas = import_extra("pandas", extra="train", purpose="Reading the validation sets")
    data = shared_folder() / "data"
    found = benchmarks(data / "routellm_benchmarks")
    votes = pandas.read_parquet(data / "validation" / "arena55k_test.parquet")
    found["arena votes"] = (votes["prompt"].tolist(), votes["strong"].to_numpy(dtype=np.float64))
    tools = pandas.read_parquet(data / "validation" / "bfcl_test.parquet")
    found["bfcl"] = (tools["prompt"].tolist(), (tools["strong"] - tools["weak"]).to_numpy(dtype=np.float64))
    prompts = pandas.read_parquet(data / "pool_chat" / "prompts.parquet").set_index("prompt_id")["prompt"]
    pairs = pandas.read_parquet(data / "pool_chat" / "pairs_scored.parquet")
    pairs["gain"] = pairs["strong_score"] - pairs["weak_score"]
    for source in ("fb_bench", "sysbench", "domaineval", "pfmt_fin_ja"):
        gains = pairs[pairs["source"] == source].groupby("prompt_id")["gain"].mean()
        found[source] = (prompts.loc[gains.index].tolist(), gains.to_numpy(dtype=np.float64))
    return found


def _routers() -> dict[str, Callable[[], Router]]:
    return {
        "mf": MatrixFactorizationRouter,
        "mf (MiniLM)": lambda: MatrixFactorizationRouter(checkpoint_path="minilm"),
        "sw_ranking": SimilarityWeightedRouter,
        "litellm auto-router v1": LiteLLMHeuristicV1,
        "litellm auto-router v2": LiteLLMHeuristicV2,
        "prompt length": PromptLength,
    }


def language_table(router: Router, file: Path) -> dict[str, dict[str, float]]:
    """By language of the parity prompts: AUC of hard against easy, share at the default threshold, gap to English.

    The gap is the mean difference to the English twin over the spread of the English scores, both as log-odds.
    """
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    logits = {}
    scores = np.clip(np.asarray(router.score([row["prompt"] for row in rows])), 1e-6, 1 - 1e-6)
    for row, value in zip(rows, np.log(scores / (1 - scores)), strict=True):
        logits.setdefault(row["lang"], {})[row["id"]] = (row["difficulty"] == "hard", float(value))
    quantiles = router.reference_quantiles
    middle = float(np.log(quantiles[500] / (1 - quantiles[500]))) if quantiles is not None else 0.0
    spread = float(np.std([value for _, value in logits["en"].values()]))
    table = {}
    for language, items in logits.items():
        hard = np.array([value for is_hard, value in items.values() if is_hard])
        easy = np.array([value for is_hard, value in items.values() if not is_hard])
        above = hard[:, None] - easy[None, :]
        table[language] = {
            "auc": float(((above > 0) + 0.5 * (above == 0)).mean()),
            "share": float(np.mean([value >= middle for _, value in items.values()])),
            "gap": float(np.mean([items[key][1] - logits["en"][key][1] for key in items]) / spread),
        }
    return table


def _board(routers: dict[str, Router]) -> dict[str, Any]:
    sets = evaluation_sets()
    figures: dict[str, Any] = {"oracle": {}, "random": {}}
    for title, (_, gain) in sets.items():
        figures["oracle"][title] = {"apgr": apgr(gain, gain)}
        figures["random"][title] = {"apgr": 0.5}
    for name, router in routers.items():
        figures[name] = {}
        for title, (prompts, gain) in sets.items():
            scores = np.asarray(router.score(prompts), dtype=np.float64)
            # Equal scores in random order, as their order says nothing.
            scores = scores + np.random.default_rng(0).uniform(0, 1e-9, len(scores))
            low, high = apgr_interval(scores, gain)
            figures[name][title] = {"apgr": apgr(scores, gain), "low": low, "high": high}
            logger.info("%s %s %s", name, title, figures[name][title])
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure everything that can score here.")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--only", nargs="*", help="names of routers")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    routers = {name: make() for name, make in _routers().items() if not options.only or name in options.only}
    result: dict[str, Any] = {"apgr": _board(routers), "robustness": {}, "languages": {}}
    pandas = import_extra("pandas", extra="train", purpose="Reading the validation sets")
    data = shared_folder() / "data"
    traffic = pandas.read_parquet(data / "validation" / "arena55k_test.parquet")["prompt"].tolist()
    for name, router in routers.items():
        found = check_robustness(router, traffic)
        result["robustness"][name] = {"length": found.length_correlation, **found.kept}
        result["languages"][name] = language_table(router, data / "parity" / "parity.jsonl")
        logger.info("%s %s %s", name, result["robustness"][name], result["languages"][name])
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
