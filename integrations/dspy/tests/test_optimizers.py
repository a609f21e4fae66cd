"""DSPy's optimizers run through a routing LM and through a routed program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import dspy_routellm_tasks as tasks  # loaded by conftest
import pytest
from dspy_routellm import Routed, RouteLLM, calls_by_model

MakeLM = Callable[..., RouteLLM]
Program = Callable[[RouteLLM], dspy.Module]

TRAIN, DEV = tasks.examples(6), tasks.examples(10)[6:]


def plain(_: RouteLLM) -> dspy.Module:
    return tasks.Solver()


def routed(lm: RouteLLM) -> dspy.Module:
    return Routed(tasks.Solver(), lm.strong_lm, lm.weak_lm, router=lm.routing.router, threshold=lm.threshold)


@pytest.fixture(params=[plain, routed], ids=["routing LM", "Routed"])
def program(request: pytest.FixtureRequest) -> Program:
    return request.param  # type: ignore[no-any-return]


def check(compiled: dspy.Module, lm: RouteLLM) -> None:
    """The compiled program still routes, each call by its own question."""
    evaluate = dspy.Evaluate(devset=DEV, metric=tasks.exact, num_threads=2, display_progress=False)
    before = len(lm.history) + len(lm.strong_lm.history) + len(lm.weak_lm.history)
    with dspy.context(lm=lm):
        assert evaluate(compiled).score == 100.0
    entries = [*lm.history, *lm.strong_lm.history, *lm.weak_lm.history]
    assert len(entries) > before
    assert {"openai/big", "openai/small"} <= set(calls_by_model(entries))


def test_bootstrap_few_shot(lm: RouteLLM, program: Program) -> None:
    with dspy.context(lm=lm):
        compiled = dspy.BootstrapFewShot(metric=tasks.exact, max_bootstrapped_demos=2).compile(
            program(lm), trainset=TRAIN
        )
    (predictor,) = compiled.predictors()
    assert len(predictor.demos) > 0
    check(compiled, lm)


def test_bootstrap_few_shot_with_random_search(lm: RouteLLM, program: Program) -> None:
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=tasks.exact, max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=1, num_threads=2
    )
    with dspy.context(lm=lm):
        compiled = optimizer.compile(program(lm), trainset=TRAIN, valset=DEV)
    check(compiled, lm)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_mipro_v2(lm: RouteLLM, program: Program) -> None:
    pytest.importorskip("optuna")
    with dspy.context(lm=lm):
        optimizer = dspy.MIPROv2(
            metric=tasks.exact,
            prompt_model=lm,
            task_model=lm,
            auto=None,
            num_candidates=2,
            num_threads=2,
            verbose=False,
        )
        compiled = optimizer.compile(
            program(lm), trainset=TRAIN, valset=DEV, num_trials=2, minibatch=False,
            max_bootstrapped_demos=1, max_labeled_demos=1,
        )  # fmt: skip
    check(compiled, lm)


def test_gepa(lm: RouteLLM, program: Program) -> None:
    def metric(example: Any, prediction: Any, *_: Any) -> dspy.Prediction:
        right = tasks.exact(example, prediction)
        return dspy.Prediction(score=float(right), feedback="Right." if right else f"It is {example.answer}.")

    with dspy.context(lm=lm):
        optimizer = dspy.GEPA(
            metric=metric, max_metric_calls=14, reflection_lm=lm, num_threads=2, skip_perfect_score=False
        )
        compiled = optimizer.compile(program(lm), trainset=TRAIN[:3], valset=DEV)
    check(compiled, lm)
