"""Each prompt of an evaluation with score, decision and outcomes together, so that one can look at the wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from routellm_core.evals.runner import Evaluation
from routellm_core.types import FloatArray


def prompt_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a JSON-ready row for each router and prompt, in the benchmark's order.

    ``decision`` is the tier when ``settings.at_share`` of the prompts, those with the highest scores (and ties with the
    lowest of them), go to the strong model; of a random router's repetitions, the first. ``lost`` is the quality that
    the better model would have added, in the benchmark's units. ``wrong`` says in words what is wrong with the
    decision: quality was lost, or the strong model was called where the weak one does as well; None for a right one.
    """
    benchmark = evaluation.benchmark
    strong, weak = (quality * benchmark.scale for quality in (benchmark.strong_quality, benchmark.weak_quality))
    rows = []
    for router in evaluation.routers:
        scores = router.scores[0]
        chosen = scores >= _threshold(scores, evaluation.settings.at_share)
        lost = np.maximum(strong, weak) - np.where(chosen, strong, weak)
        for n, prompt in enumerate(benchmark.prompts):
            wasted = bool(chosen[n] and weak[n] >= strong[n])
            wrong = "quality lost" if lost[n] > 0.0 else "strong not needed" if wasted else None
            rows.append(
                {
                    "router": router.name,
                    "id": benchmark.prompt_ids[n],
                    "group": benchmark.groups[n],
                    "prompt": prompt,
                    "score": float(scores[n]),
                    "decision": "strong" if chosen[n] else "weak",
                    "strong": float(strong[n]),
                    "weak": float(weak[n]),
                    "lost": float(lost[n]),
                    "wrong": wrong,
                }
            )
    return rows


def worst_rows(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return the ``count`` worst wrong decisions of each router: most quality lost, then furthest off by the score."""
    kept = []
    for router in dict.fromkeys(row["router"] for row in rows):
        wrong = [row for row in rows if row["router"] == router and row["wrong"]]
        wrong.sort(key=lambda row: (-row["lost"], -row["score"] if row["decision"] == "strong" else row["score"]))
        kept += wrong[:count]
    return kept


def _threshold(scores: FloatArray, share: float) -> float:
    return float(np.quantile(scores, 1.0 - share, method="higher")) if share > 0.0 else float("inf")
