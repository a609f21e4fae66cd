"""RouteLLM's published figures (Ong et al., arXiv 2406.18665v4, the tables of its results section)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedResult"]


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row of a published table.

    Attributes:
        benchmark: registry name.
        router: RouteLLM's name of the router.
        training_data: what it was trained on; hosted embeddings (text-embedding-3-small) in all but bert, causal_llm.
        cpt50: share of strong calls to recover half of the gap, in [0, 1].
        cpt80: the same for four fifths.
        apgr: mean of PGR over ten cost points.
    """

    benchmark: str
    router: str
    training_data: str
    cpt50: float
    cpt80: float
    apgr: float


_ARENA = "Chatbot Arena votes"
_JUDGE = "Chatbot Arena votes + about 109k GPT-4-judged answers"
_GOLD = "Chatbot Arena votes + about 1,500 labelled questions of MMLU's validation split"

# router: CPT(50%), CPT(80%), APGR, in the order of the paper's columns
_ROWS: dict[str, tuple[str, dict[str, tuple[float, float, float]], dict[str, tuple[float, float, float]]]] = {
    "mt-bench": (
        _JUDGE,
        {
            "bert": (78.09, 87.64, 0.391),
            "causal_llm": (28.82, 77.53, 0.573),
            "mf": (25.32, 74.26, 0.580),
            "sw_ranking": (37.85, 58.99, 0.610),
        },
        {
            "bert": (19.58, 34.02, 0.751),
            "causal_llm": (31.50, 48.75, 0.679),
            "mf": (13.40, 31.31, 0.802),
            "sw_ranking": (23.21, 36.04, 0.759),
        },
    ),
    "mmlu": (
        _GOLD,
        {
            "bert": (49.43, 77.80, 0.502),
            "causal_llm": (48.88, 77.93, 0.499),
            "mf": (45.00, 76.86, 0.524),
            "sw_ranking": (55.82, 80.25, 0.473),
        },
        {
            "bert": (41.30, 72.20, 0.572),
            "causal_llm": (35.49, 70.31, 0.600),
            "mf": (35.46, 71.40, 0.597),
            "sw_ranking": (35.40, 71.55, 0.603),
        },
    ),
    "gsm8k": (
        _JUDGE,
        {
            "bert": (58.78, 83.84, 0.438),
            "causal_llm": (56.09, 83.56, 0.461),
            "mf": (53.59, 85.24, 0.475),
            "sw_ranking": (54.43, 82.11, 0.475),
        },
        {
            "bert": (44.76, 79.09, 0.531),
            "causal_llm": (33.64, 63.26, 0.622),
            "mf": (38.82, 72.62, 0.565),
            "sw_ranking": (41.21, 72.20, 0.568),
        },
    ),
}
_RANDOM = {"mt-bench": (49.03, 78.08, 0.500), "mmlu": (50.07, 79.93, 0.500), "gsm8k": (50.00, 80.08, 0.497)}


def _results() -> list[PublishedResult]:
    results = []
    for benchmark, (augmentation, arena, augmented) in _ROWS.items():
        for data, rows in ((_ARENA, arena), (augmentation, augmented)):
            results += [
                PublishedResult(benchmark, router, data, cpt50 / 100, cpt80 / 100, apgr)
                for router, (cpt50, cpt80, apgr) in rows.items()
            ]
        cpt50, cpt80, apgr = _RANDOM[benchmark]
        results.append(PublishedResult(benchmark, "random", "nothing", cpt50 / 100, cpt80 / 100, apgr))
    return results


PUBLISHED: tuple[PublishedResult, ...] = tuple(_results())
"""Every row, by benchmark, arena-only routers first."""
