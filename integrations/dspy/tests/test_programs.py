"""Programs over a routing LM: streaming, threads, usage, evaluation, embedding in modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy_routellm import RouteLLM, calls_by_model
from pydantic import BaseModel

MakeLM = Callable[..., RouteLLM]


class Solve(dspy.Module):
    """Two predictors, so that one program may use both models."""

    def __init__(self) -> None:
        super().__init__()
        self.solve = dspy.ChainOfThought("question -> answer: int")
        self.comment = dspy.Predict("remark -> comment")

    def forward(self, question: str) -> dspy.Prediction:
        solved = self.solve(question=question)
        return dspy.Prediction(answer=solved.answer, comment=self.comment(remark="well done").comment)

    async def aforward(self, question: str) -> dspy.Prediction:
        solved = await self.solve.acall(question=question)
        comment = await self.comment.acall(remark="well done")
        return dspy.Prediction(answer=solved.answer, comment=comment.comment)


class Answer(BaseModel):
    number: int


class Calculate(dspy.Signature):
    question: str = dspy.InputField()
    answer: Answer = dspy.OutputField()


QUESTIONS = [f"What is {a} {sign} {b}?" for a, sign, b in [(2, "*", 3), (4, "+", 5), (6, "*", 7), (8, "-", 3)]]
ANSWERS = [6, 9, 42, 5]


def test_each_call_of_a_program_is_routed(lm: RouteLLM) -> None:
    program = Solve()
    with dspy.context(lm=lm):
        assert program(question="What is 6 * 7?").answer == 42
    assert calls_by_model(program.history) == {"openai/big": 1, "openai/small": 1}


def test_usage_of_a_prediction_is_per_model(lm: RouteLLM) -> None:
    with dspy.context(lm=lm, track_usage=True):
        usage = Solve()(question="What is 6 * 7?").get_lm_usage()
    assert set(usage) == {"openai/big", "openai/small"}


def test_predictions_with_candidates_and_structured_outputs(make_lm: MakeLM) -> None:
    lm = make_lm("openai/gpt-4o", "openai/gpt-4o-mini")
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        assert isinstance(dspy.Predict(Calculate)(question="What is 6 * 7?").answer, Answer)
    with dspy.context(lm=lm):
        several = dspy.Predict("question -> answer: int", n=2)(question="What is 6 * 7?")
    assert several.completions.answer == [42, 42]


def test_evaluate_with_threads(make_lm: MakeLM) -> None:
    examples = [
        dspy.Example(question=question, answer=answer).with_inputs("question")
        for question, answer in zip(QUESTIONS * 3, ANSWERS * 3, strict=True)
    ]

    def exact(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    evaluate = dspy.Evaluate(devset=examples, metric=exact, num_threads=4, display_progress=False)
    routed = make_lm(cache=False)
    for lm, score in ((routed, 100.0), (make_lm(threshold=1.0), 50.0), (make_lm(threshold=0.0), 100.0)):
        with dspy.context(lm=lm):
            assert evaluate(dspy.Predict("question -> answer: int")).score == score
    assert routed.model_counts == {"openai/big": 6, "openai/small": 6}


def test_parallel(make_lm: MakeLM) -> None:
    lm = make_lm(cache=False)
    predict = dspy.Predict("question -> answer: int")
    with dspy.context(lm=lm):
        parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)
        results = parallel([(predict, {"question": question}) for question in QUESTIONS])
    assert [result.answer for result in results] == ANSWERS
    assert lm.model_counts == {"openai/big": 2, "openai/small": 2}


async def test_asyncify_and_asynchronous_programs(lm: RouteLLM) -> None:
    with dspy.context(lm=lm):
        assert (await dspy.asyncify(Solve())(question="What is 6 * 7?")).answer == 42
        assert (await Solve().acall(question="What is 4 + 5?")).answer == 9
    assert {entry["routing"]["model"] for entry in lm.history} == {"openai/big", "openai/small"}


@pytest.mark.parametrize("is_async", [False, True])
async def test_streamify(make_lm: MakeLM, is_async: bool) -> None:
    lm = make_lm(cache=False)
    predict = dspy.Predict("question -> answer")
    stream = dspy.streamify(
        predict,
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
        is_async_program=is_async,
    )
    with dspy.context(lm=lm, track_usage=True):
        received = [value async for value in stream(question="Tell me 2 * things, in many words")]
    *chunks, prediction = received
    assert len(chunks) > 2
    assert "".join(chunk.chunk for chunk in chunks).strip() == prediction.answer
    assert prediction.answer.startswith("big answers:")
    assert lm.history[-1]["routing"]["model"] == "openai/big"
    assert set(prediction.get_lm_usage()) == {"openai/big"}


async def test_a_stream_of_a_failing_model_falls_back(make_lm: MakeLM) -> None:
    lm = make_lm("openai/fail-500", cache=False)
    stream = dspy.streamify(dspy.Predict("question -> answer"))
    with dspy.context(lm=lm):
        received = [value async for value in stream(question="6 * 7 in words, and more")]
    assert isinstance(received[-1], dspy.Prediction)
    assert lm.history[-1]["routing"]["fallback_from"] == "openai/fail-500"


def test_callbacks_see_one_lm(make_lm: MakeLM) -> None:
    from dspy.utils.callback import BaseCallback

    class Seen(BaseCallback):
        def __init__(self) -> None:
            self.lms: list[Any] = []

        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            self.lms.append(instance)

    seen = Seen()
    lm = make_lm(callbacks=[seen])
    lm("6 * 7")
    assert seen.lms == [lm]


def test_a_predictor_may_have_a_routing_lm_of_its_own(lm: RouteLLM) -> None:
    predict = dspy.Predict("question -> answer: int")
    predict.set_lm(lm)
    assert predict.get_lm() is lm
    assert predict(question="What is 6 * 7?").answer == 42
