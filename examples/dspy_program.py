"""A DSPy program that routes, tuned by its own metric: measure, calibrate, optimise, save.

No key and no download: the router is the embedded default, the models are a local OpenAI-compatible process whose weak
model cannot multiply. Needs ``pip install dspy-routellm``; run it with ``python -m examples.dspy_program``.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
from dspy_routellm import RouteLLM, calls_by_model, measure

from routellm_core.testing.local_models import LocalModelServer

EASY = "What is {a} + {b}?"
HARD = "Solve step by step: a matrix has {a} rows and {b} columns, so how many entries are {a} * {b}?"
PRICES = {
    "strong": {"input_cost_per_token": 2.5e-6, "output_cost_per_token": 15e-6},
    "weak": {"input_cost_per_token": 0.2e-6, "output_cost_per_token": 1.25e-6},
}


def arithmetic(request: Mapping[str, Any]) -> str:
    """Answer as DSPy's ChatAdapter asks: every model adds, and only the strong one multiplies."""
    left, sign, right = re.findall(r"(\d+) ([+*]) (\d+)", request["messages"][-1]["content"])[-1]
    numbers = int(left), int(right)
    answer = sum(numbers) if sign == "+" or "weak" in request["model"] else numbers[0] * numbers[1]
    return f"[[ ## reasoning ## ]]\nI count.\n\n[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"


def examples(first: int, count: int) -> list[dspy.Example]:
    made = []
    for a in range(first, first + count):
        b = 3 + a % 11
        question, answer = (HARD, a * b) if a % 3 == 0 else (EASY, a + b)
        made.append(dspy.Example(question=question.format(a=a, b=b), answer=answer).with_inputs("question"))
    return made


def exact(example: dspy.Example, prediction: dspy.Prediction, _trace: object = None) -> bool:
    return example.answer == prediction.answer


def main() -> None:
    with LocalModelServer(reply=arithmetic) as server:
        lm = RouteLLM(
            router="mf",
            strong={"model": "openai/local-strong", **PRICES["strong"]},
            weak={"model": "openai/local-weak", **PRICES["weak"]},
            api_base=server.base_url,
            api_key="not-needed",
        )
        dspy.configure(lm=lm)
        program = dspy.ChainOfThought("question -> answer: int")

        measured = measure(program, examples(10, 120), exact, lm=lm, num_threads=4)
        print(f"by the metric: strong {measured.strong_quality:.0%}, weak {measured.weak_quality:.0%}, ", end="")
        print(f"the better of both {measured.oracle_quality:.0%}")
        for point in measured.curve(level=0.9):
            print(f"  {point.share.value:4.0%} strong: quality {point.quality.value:4.0%}", end="")
            print(f" [{point.quality.low:.0%}, {point.quality.high:.0%}], ${point.cost.value:.3f} per 1,000 runs")

        result = measured.calibrate(quality=0.9, level=0.9)
        print(f"threshold {result.threshold.value:.3f} surely keeps 90% of the strong model's quality")
        dspy.configure(lm=lm.copy(threshold=result.threshold.value))

        optimizer = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2)
        compiled = optimizer.compile(program, trainset=examples(200, 12))
        evaluate = dspy.Evaluate(devset=examples(300, 30), metric=exact, num_threads=4, display_progress=False)
        print(f"new questions, routed and optimised: {evaluate(compiled).score:.0f}% right,", end=" ")
        print(f"answered by {calls_by_model(dspy.settings.lm.history[-30:])}")

        with tempfile.TemporaryDirectory() as folder:
            compiled.save(Path(folder) / "program.json")
            loaded = dspy.ChainOfThought("question -> answer: int")
            loaded.load(Path(folder) / "program.json")
        print(f"loaded again: 12 * 12 = {loaded(question=HARD.format(a=12, b=12)).answer}")


if __name__ == "__main__":
    main()
