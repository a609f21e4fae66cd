"""Every figure that RouteLLM's own evaluation printed for three routers, reproduced from the same win rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from routellm_core.evals import Benchmark, EvaluationSettings, run_evaluation
from routellm_core.evals.benchmarks.mmlu import SUBJECTS
from routellm_core.metrics.baselines import oracle_quality
from routellm_core.metrics.curves import (
    apgr,
    area,
    average_rows,
    call_performance_threshold,
    curve_of_rows,
    threshold_rows,
)
from routellm_core.routers import load_router
from routellm_core.types import FloatArray

BENCHMARKS = ("mmlu", "gsm8k", "mt-bench")
TOLERANCE = 1e-12
Load = Callable[[str], Any]


def rows_of(scores: FloatArray, benchmark: Benchmark, num_results: int = 10) -> Any:
    return threshold_rows(
        scores,
        benchmark.strong_quality,
        benchmark.weak_quality,
        num_results=num_results,
        scale=benchmark.scale,
        calls_per_prompt=benchmark.calls_per_prompt,
    )


def assert_same_rows(rows: Any, expected: Any) -> None:
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row.quality == other["accuracy"]
        assert row.threshold == pytest.approx(other["threshold"], abs=TOLERANCE)
        assert (row.strong_calls, row.weak_calls) == (other["strong"], other["weak"])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_prompts_order_and_model_qualities(name: str, golden: Load, published: Load) -> None:
    import hashlib

    benchmark, expected = published(name), golden(name)
    digests = [hashlib.sha256(prompt.encode()).hexdigest()[:16] for prompt in benchmark.prompts]
    assert digests == expected["prompt_sha256_16"]
    assert benchmark.weak_mean == expected["weak_score"]
    assert benchmark.strong_mean == expected["strong_score"]


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("router", ["sha256", "length"])
def test_threshold_rows(name: str, router: str, golden: Load, published: Load) -> None:
    expected = golden(name)
    rows = rows_of(np.array(expected["win_rates"][router]), published(name))
    assert_same_rows(rows, expected["rows"][router])


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("steps", [5, 20])
def test_threshold_rows_with_other_numbers_of_steps(name: str, steps: int, golden: Load, published: Load) -> None:
    expected = golden(name)
    rows = rows_of(np.array(expected["win_rates"]["sha256"]), published(name), steps)
    assert_same_rows(rows, expected["extra"][f"sha256_num_results_{steps}"])


def assert_same_metrics(rows: Any, benchmark: Benchmark, expected: Any) -> None:
    curve = curve_of_rows(rows)
    ends = benchmark.weak_mean, benchmark.strong_mean
    for fraction in (20, 50, 80):
        share = call_performance_threshold(curve, *ends, fraction / 100)
        assert f"{share * 100:.2f}%" == expected[f"{fraction}% qual"]
    assert area(curve) == pytest.approx(expected["AUC"], abs=TOLERANCE * 100)
    assert apgr(curve, *ends) == pytest.approx(expected["APGR"], abs=TOLERANCE)


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("router", ["sha256", "length"])
def test_metrics(name: str, router: str, golden: Load, published: Load) -> None:
    expected = golden(name)
    metrics = next(item for item in expected["metrics"] if item["method"] == router)
    assert_same_metrics(rows_of(np.array(expected["win_rates"][router]), published(name)), published(name), metrics)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_random_router_and_its_ten_repetitions(name: str, golden: Load, published: Load) -> None:
    expected, benchmark = golden(name), published(name)
    settings = EvaluationSettings(resamples=1)
    result = run_evaluation(benchmark, {"random": load_router("random")}, settings=settings).routers[0]

    np.testing.assert_array_equal(result.scores, expected["win_rates"]["random"])
    repetitions = [rows_of(scores, benchmark) for scores in result.scores]
    for rows, other in zip(repetitions, expected["rows"]["random_iterations"], strict=True):
        assert_same_rows(rows, other)
    averaged = sorted(average_rows(repetitions), key=lambda row: row.strong_calls)
    for row, other in zip(averaged, expected["rows"]["random_grouped"], strict=True):
        assert row.strong_share * 100 == pytest.approx(other["strong_percentage"], abs=TOLERANCE)
        assert row.threshold == pytest.approx(other["threshold"], abs=TOLERANCE)
        assert row.quality == pytest.approx(other["accuracy"], abs=TOLERANCE * 100)
    metrics = next(item for item in expected["metrics"] if item["method"] == "random")
    assert_same_metrics(result.rows, benchmark, metrics)
    assert result.metrics["apgr"].value == pytest.approx(metrics["APGR"], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["mmlu", "gsm8k"])
def test_oracle(name: str, golden: Load, published: Load) -> None:
    benchmark, expected = published(name), golden(name)["optimal"]
    shares = np.array([item["strong_percent"] for item in expected])
    oracle = oracle_quality(benchmark.strong_quality, benchmark.weak_quality, shares) * benchmark.scale
    np.testing.assert_allclose(oracle, [item["accuracy"] for item in expected], atol=TOLERANCE * 100)


def test_oracle_on_mt_bench_uses_the_evaluated_questions(golden: Load, published: Load, data_dir: Any) -> None:
    """RouteLLM's oracle takes all 80 questions, with the calls counted on the 72 that are evaluated."""
    benchmark, expected = published("mt-bench"), golden("mt-bench")["optimal"]
    shares = np.array([item["strong_percent"] for item in expected])
    right = oracle_quality(benchmark.strong_quality, benchmark.weak_quality, shares)
    assert right[0] == benchmark.weak_mean != expected[0]["accuracy"]

    strong, weak = _all_questions(data_dir, benchmark)
    reproduced = oracle_quality(strong, weak, np.floor(shares * 72) / 80)
    np.testing.assert_allclose(reproduced, [item["accuracy"] for item in expected], atol=1e-12)


def _all_questions(data_dir: Any, benchmark: Benchmark) -> tuple[FloatArray, FloatArray]:
    import json
    from collections import defaultdict

    scores = defaultdict(list)
    for line in (data_dir / "routellm/evals/mt_bench/judgements.jsonl").read_text().splitlines():
        record = json.loads(line)
        scores[record["model"], record["question_id"]].append(record["score"])
    return tuple(  # type: ignore[return-value]
        np.array([sum(scores[model, question]) / 2 for question in range(81, 161)])
        for model in (benchmark.pair.strong, benchmark.pair.weak)
    )


def test_discrete_scores_are_evaluated_where_the_reference_fails(golden: Load, published: Load) -> None:
    assert golden("mt-bench")["extra"]["discrete_router_3_values"].startswith("ValueError")
    benchmark = published("mt-bench")
    scores = np.arange(len(benchmark)) % 3 / 3
    rows = rows_of(scores, benchmark)
    assert [row.strong_calls for row in rows] == [144, 96, 48, 0]


def test_fifty_seven_subjects(published: Load) -> None:
    benchmark = published("mmlu")
    assert len(SUBJECTS) == 57
    assert set(benchmark.groups) == set(SUBJECTS)
    result = run_evaluation(benchmark, {"random": load_router("random")}, settings=EvaluationSettings(resamples=1))
    groups = result.routers[0].groups
    assert [group.name for group in groups] == sorted(SUBJECTS)
    assert sum(group.prompts for group in groups) == len(benchmark) == 14_037
    weighted = sum(group.strong * group.prompts for group in groups) / len(benchmark)
    assert weighted == pytest.approx(benchmark.strong_mean)
