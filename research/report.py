"""Benchmark figures for a shipped router's card; they are reported, never used to choose anything.

python -m research.report mf_static
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from research.pool import shared_folder
from routellm_core._files import ASSETS
from routellm_core._optional import import_extra
from routellm_core.routers.base import Router
from routellm_core.routers.mf.router import MatrixFactorizationRouter
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter

__all__ = ["apgr", "apgr_interval", "benchmarks", "main"]

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
_RESAMPLES: Final = 1000
_NOTE: Final = (
    "GPT-4-1106-preview against Mixtral-8x7B-Instruct-v0.1, contaminated rows dropped, no in-domain row in training. "
    "APGR by trapezoid over deciles of the share of strong calls; intervals by bootstrap over prompts. "
    "A random router has 0.5."
)


def apgr(scores: Floats, gain: Floats) -> float:
    """Area under the share of the strong model's gain that is recovered, over the share of calls that it gets.

    Args:
        scores: shape (n,); the highest go to the strong model first.
        gain: shape (n,), quality of the strong minus the weak model.
    """
    order = np.argsort(-scores, kind="stable")
    recovered = np.concatenate([[0.0], np.cumsum(gain[order])])
    at = np.round(np.linspace(0.0, 1.0, 11) * len(gain)).astype(int)
    heights = recovered[at] / recovered[-1]
    return float((heights[:-1] + heights[1:]).sum() / 20.0)


def apgr_interval(scores: Floats, gain: Floats, *, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of :func:`apgr` over prompts."""
    generator = np.random.default_rng(seed)
    samples = [generator.integers(0, len(gain), len(gain)) for _ in range(_RESAMPLES)]
    low, high = np.quantile([apgr(scores[rows], gain[rows]) for rows in samples], [0.025, 0.975])
    return float(low), float(high)


def benchmarks(folder: Path) -> dict[str, tuple[list[str], Floats]]:
    """Prompts and gains of MMLU, GSM8K and MT-Bench without the contaminated rows."""
    pandas = import_extra("pandas", extra="train", purpose="Reading the benchmarks")
    found = {}
    for title, file in (("MMLU", "mmlu"), ("GSM8K", "gsm8k")):
        frame = pandas.read_parquet(folder / f"{file}.parquet")
        frame = frame[~frame["contaminated"]]
        strong, weak = frame["gpt-4-1106-preview"], frame["mistralai/Mixtral-8x7B-Instruct-v0.1"]
        found[title] = (frame["prompt"].tolist(), (strong.astype(float) - weak.astype(float)).to_numpy())
    questions = pandas.read_parquet(folder / "mt_bench_questions.parquet")
    questions = questions[~questions["contaminated"]]
    judged = pandas.read_parquet(folder / "mt_bench_judgements.parquet")
    means = judged.groupby(["question_id", "model"])["score"].mean().unstack().loc[questions["question_id"]]
    strong_column = next(model for model in means.columns if model.startswith("gpt-4"))
    weak_column = next(model for model in means.columns if model != strong_column)
    gain = (means[strong_column] - means[weak_column]).to_numpy(dtype=np.float64)
    found["MT-Bench"] = ([turns[0] for turns in questions["turns"]], gain)
    return found


def _figures(name: str) -> dict[str, Any]:
    checkpoint = {"mf_static": "default", "mf_minilm": "minilm"}.get(name)
    router: Router = MatrixFactorizationRouter(checkpoint_path=checkpoint) if checkpoint else SimilarityWeightedRouter()
    figures: dict[str, Any] = {}
    for title, (prompts, gain) in benchmarks(shared_folder() / "data" / "routellm_benchmarks").items():
        scores = np.asarray(router.score(prompts), dtype=np.float64)
        low, high = apgr_interval(scores, gain)
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
        values = {"apgr": apgr(scores, gain), "low": low, "high": high, "length": apgr(lengths, gain)}
        figures[title] = {key: round(value, 4) for key, value in values.items()} | {"prompts": len(prompts)}
        logger.info("%s %s: %s", name, title, figures[title])
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Command line: write ``benchmarks.json`` into the asset, for its card."""
    parser = argparse.ArgumentParser(description="Measure a shipped router on the benchmarks, for its card.")
    parser.add_argument("asset", choices=["mf_static", "mf_minilm", "sw_ranking"])
    asset = parser.parse_args(arguments).asset
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    content = {"note": _NOTE, "apgr": _figures(asset)}
    (ASSETS / asset / "benchmarks.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
