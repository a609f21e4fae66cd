"""A small real task for optimizers and calibration: arithmetic. The local weak model cannot multiply."""

from __future__ import annotations

from typing import Any

import dspy


def examples(count: int) -> list[dspy.Example]:
    """Half multiplications, which only the strong model gets right; half additions, which both do."""
    made = []
    for number in range(count):
        left, right = 3 + number, 5 + number % 7
        question, answer = (f"What is {left} * {right}?", left * right) if number % 2 else (
            f"What is {left} + {right}?", left + right
        )  # fmt: skip
        made.append(dspy.Example(question=question, answer=answer).with_inputs("question"))
    return made


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None, *_: Any) -> bool:
    return bool(example.answer == prediction.answer)


class Solver(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.solve = dspy.Predict("question -> answer: int")

    def forward(self, question: str) -> dspy.Prediction:
        return self.solve(question=question)  # type: ignore[no-any-return]

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.solve.acall(question=question)  # type: ignore[no-any-return]
