"""Do the printed intervals hold on a held-out half? 100 random splits per data set, router and target.

    python benchmarks/calibration/coverage.py --shared ../shared --json benchmarks/results/calibration_coverage.json

Each split calibrates on one half and measures on the other with the threshold fixed. Counted are the splits in which
the held-out share, cost and quality lie in their intervals, in which the cost stays within the budget, and in which
the quality reaches the target. Scores are computed once: the routers do not depend on the split.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from routellm_core import load_router
from routellm_core.calibration import PromptCosts, PromptQuality, calibrate_cost, calibrate_quality, calibrate_share
from routellm_core.errors import CalibrationError
from routellm_core.pricing import estimate_tokens

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
STRONG_PRICE, WEAK_PRICE = (10e-6, 30e-6), (0.6e-6, 0.6e-6)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
BUDGETS = (0.3, 0.5, 0.7)
QUALITIES = (0.9, 0.95, 0.98)
ROUTERS = {
    "mf": ("mf", {}),
    "random": ("random", {"seed": 0}),
}


@dataclass
class Data:
    """One data set: n prompts, dollars per request on each model, and both qualities where known."""

    prompts: list[str]
    costs: PromptCosts
    quality: PromptQuality | None


def costs_of(prompts: list[str], strong_answers: list[str] | None, weak_answers: list[str] | None) -> PromptCosts:
    """Estimate dollars from text lengths; 300 tokens an answer where answers are not there."""
    sent = np.array([estimate_tokens(prompt) for prompt in prompts])
    dollars = []
    for (in_price, out_price), answers in ((STRONG_PRICE, strong_answers), (WEAK_PRICE, weak_answers)):
        answered = (
            np.array([estimate_tokens(answer) for answer in answers]) if answers else np.full(len(prompts), 300.0)
        )
        dollars.append(sent * in_price + answered * out_price)
    return PromptCosts(*dollars)


def load(shared: Path) -> dict[str, Data]:
    """Read the shared data sets."""
    folder = shared / "data"
    found = {}
    for name in ("mmlu", "gsm8k"):
        table = parquet.read_table(folder / "routellm_benchmarks" / f"{name}.parquet").to_pydict()
        prompts = table["prompt"]
        answers = [table.get(f"response_{model}") for model in (STRONG, WEAK)]
        quality = PromptQuality(*(np.array(table[model], dtype=float) for model in (STRONG, WEAK)))
        found[name] = Data(prompts, costs_of(prompts, *answers), quality)
    pool = parquet.read_table(folder / "pool_train" / "prompts.parquet", columns=["source", "prompt"]).to_pydict()
    for source in ("arena55k", "lmeval_small5"):
        prompts = [text for text, origin in zip(pool["prompt"], pool["source"], strict=True) if origin == source]
        found[f"pool_train/{source}"] = Data(prompts, costs_of(prompts, None, None), None)
    return found


def held_out(data: Data, scores: np.ndarray, rows: np.ndarray, threshold: float) -> dict[str, float]:
    """Measure a threshold on the held-out rows."""
    strong = scores[rows] >= threshold
    cost = np.where(strong, data.costs.strong[rows], data.costs.weak[rows]).mean() * 1000
    figures = {"share": float(strong.mean()), "cost": float(cost)}
    if data.quality is not None:
        routed = np.where(strong, data.quality.strong[rows], data.quality.weak[rows])
        figures["quality"] = float(routed.mean() / data.quality.strong[rows].mean())
    return figures


def part(data: Data, rows: np.ndarray) -> tuple[PromptCosts, PromptQuality | None]:
    """Take the rows of one half."""
    quality = data.quality and PromptQuality(data.quality.strong[rows], data.quality.weak[rows])
    return PromptCosts(data.costs.strong[rows], data.costs.weak[rows]), quality


def run_target(data: Data, scores: np.ndarray, kind: str, value: float, *, level: float, splits: int) -> dict[str, Any]:
    """Count, over random splits, how often the held-out half is as promised."""
    counts: Counter[str] = Counter()
    shares, n = [], len(scores)
    for split in range(splits):
        order = np.random.default_rng(split).permutation(n)
        mine, other = order[: n // 2], order[n // 2 :]
        costs, quality = part(data, mine)
        options: dict[str, Any] = {"evaluation_size": len(other), "level": level}
        try:
            if kind == "share":
                result = calibrate_share(scores[mine], value, costs=costs, quality=quality, **options)
            elif kind == "cost":
                result = calibrate_cost(scores[mine], costs, value, quality=quality, resamples=1, **options)
            else:
                assert quality is not None
                result = calibrate_quality(scores[mine], quality, value, costs=costs, resamples=1, **options)
        except CalibrationError:
            counts["refused"] += 1
            continue
        figures = held_out(data, scores, other, result.threshold.value)
        for name, figure in figures.items():
            estimate = getattr(result, name)
            counts[f"{name}_in_interval"] += estimate.low - 1e-9 <= figure <= estimate.high + 1e-9
        counts["budget_kept"] += kind == "cost" and figures["cost"] <= value
        counts["quality_reached"] += kind == "quality" and figures["quality"] >= value
        shares.append(figures["share"])
    if kind != "cost":
        del counts["budget_kept"]
    if kind != "quality":
        del counts["quality_reached"]
    return {"answered": splits - counts["refused"], "mean_share": float(np.mean(shares)) if shares else None, **counts}


def main() -> None:
    """Run every combination and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--data", nargs="+", help="only these data sets; rows of others in --json are kept")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.json and arguments.json.exists() and arguments.data:
        known = json.loads(arguments.json.read_text())["rows"]
        rows = [row for row in known if row["data"] not in arguments.data]
    for name, data in load(arguments.shared).items():
        if arguments.data and name not in arguments.data:
            continue
        for label, (router, options) in ROUTERS.items():
            scores = load_router(router, options).score(data.prompts)
            all_weak, all_strong = (float(column.mean()) * 1000 for column in (data.costs.weak, data.costs.strong))
            targets = [("share", share) for share in SHARES]
            targets += [("cost", all_weak + fraction * (all_strong - all_weak)) for fraction in BUDGETS]
            targets += [("quality", quality) for quality in QUALITIES] if data.quality is not None else []
            for kind, value in targets:
                for level in (0.99, 0.95):
                    outcome = run_target(data, scores, kind, value, level=level, splits=arguments.splits)
                    rows.append({"data": name, "n": len(scores), "router": label, "target": kind, "value": value,
                                 "level": level, **outcome})  # fmt: skip
                    print(json.dumps(rows[-1]), flush=True)
    summary = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
        "splits": arguments.splits,
        "rows": rows,
    }
    for level in (0.99, 0.95):
        worst = min(row["share_in_interval"] for row in rows if row["level"] == level and row["target"] == "share")
        print(f"level {level}: the held-out share was in its interval in at least {worst} of {arguments.splits} splits")
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
