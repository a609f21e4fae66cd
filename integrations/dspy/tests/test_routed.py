"""``Routed``: one decision per program call, each LM's calls and usage under its own name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy_routellm import Routed, RouteLLM, calls_by_model, routing_of

from routellm_core.errors import ConfigError, InvalidThresholdError, UnsupportedPromptError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

MakeRouted = Callable[..., Routed]


def multiply(a: int, b: int) -> int:
    """Multiplies."""
    return a * b


@pytest.fixture
def make_routed(local_models: LocalModelServer) -> MakeRouted:
    def make(program: dspy.Module | None = None, **options: Any) -> Routed:
        models = [
            dspy.LM(f"openai/{name}", api_base=local_models.base_url, api_key="k", engine="litellm", cache=False)
            for name in ("big", "small")
        ]
        defaults = {
            "router": FixedScoreRouter(score=lambda text: 0.9 if "*" in text else 0.1),
            "threshold": 0.5,
            "strong_lm": models[0],
            "weak_lm": models[1],
        }
        return Routed(program or dspy.ReAct("question -> answer: int", tools=[multiply]), **{**defaults, **options})

    return make


def test_one_decision_per_program_call(make_routed: MakeRouted) -> None:
    routed = make_routed()
    with dspy.context(track_usage=True):
        prediction = routed(question="What is 6 * 7?")
    assert prediction.answer == 42
    assert routing_of(prediction)["model"] == "openai/big"
    assert "_routing" not in prediction.toDict()
    assert len(routed.routing.router.batches) == 1
    assert set(prediction.get_lm_usage()) == {"openai/big"}
    assert calls_by_model(routed.history) == {"openai/big": 3}
    assert (len(routed.strong_lm.history), len(routed.weak_lm.history)) == (3, 0)
    routed(question="What is 6 + 7?")
    assert routed.model_counts == {"openai/big": 1, "openai/small": 1}


async def test_asynchronously_and_in_a_stream(make_routed: MakeRouted) -> None:
    routed = make_routed(dspy.Predict("question -> answer"))
    assert (await routed.acall(question="6 * 7")).answer == "42"
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    stream = dspy.streamify(routed, stream_listeners=[listener])
    *chunks, prediction = [value async for value in stream(question="2 * things, in many words")]
    assert "".join(chunk.chunk for chunk in chunks).strip() == prediction.answer
    assert routing_of(prediction)["tier"] == "strong"


def test_nested_programs_decide_for_themselves(make_routed: MakeRouted) -> None:
    class Outer(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = dspy.Predict("topic -> question")
            self.inner = make_routed(dspy.Predict("question -> answer: int"))

        def forward(self, topic: str) -> dspy.Prediction:
            self.before(topic=topic)
            return self.inner(question="What is 6 * 7?")

    outer = make_routed(Outer())
    assert outer(topic="hello").answer == 42
    assert calls_by_model(outer.history) == {"openai/small": 1, "openai/big": 1}
    assert [routed.model_counts for routed in (outer, outer.program.inner)] == [{"openai/small": 1}, {"openai/big": 1}]


def test_a_routing_lm_may_be_one_of_the_two(make_routed: MakeRouted, lm: RouteLLM) -> None:
    routed = make_routed(dspy.Predict("question -> answer: int"), strong_lm=lm)
    assert routed(question="What is 6 * 7?").answer == 42
    assert calls_by_model(routed.history) == {"openai/big": 1}


def test_a_predictor_keeps_an_lm_of_its_own(make_routed: MakeRouted, lm: RouteLLM) -> None:
    program = dspy.Predict("question -> answer")
    routed = make_routed(program)
    program.set_lm(lm.strong_lm)
    routed(question="hello")
    assert calls_by_model(routed.history) == {"openai/big": 1}


def test_fields_and_thresholds(make_routed: MakeRouted) -> None:
    routed = make_routed(dspy.Predict("context, question -> answer"), route_fields=["question"])
    assert routed.decide(context="2 * 2", question="hi").tier == "weak"
    copied = routed.deepcopy()
    copied.threshold = 0.05
    assert copied.decide(context="", question="hi").tier == "strong"
    assert routed.decide(context="", question="hi").tier == "weak"
    with pytest.raises(UnsupportedPromptError, match="was called with context"):
        routed(context="2 * 2")
    with pytest.raises(InvalidThresholdError):
        routed.threshold = "200%"


def test_threads_do_not_mix(make_routed: MakeRouted) -> None:
    routed = make_routed(dspy.Predict("question -> answer: int"))
    examples = [
        dspy.Example(question=f"What is {n} {'*' if n % 2 else '+'} 3?").with_inputs("question") for n in range(12)
    ]

    def right_model(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
        return (routing_of(prediction)["tier"] == "strong") == ("*" in example.question)

    score = dspy.Evaluate(devset=examples, metric=right_model, num_threads=4, display_progress=False)(routed).score
    assert score == 100.0
    assert len(routed.strong_lm.history) == len(routed.weak_lm.history) == 6


def test_a_program_is_saved_with_its_demos(make_routed: MakeRouted, tmp_path: Any) -> None:
    routed = make_routed(dspy.Predict("question -> answer"))
    routed.program.demos = [dspy.Example(question="a", answer="b")]
    routed.save(tmp_path / "routed.json")
    loaded = make_routed(dspy.Predict("question -> answer"))
    loaded.load(tmp_path / "routed.json")
    assert loaded.program.demos[0]["question"] == "a"


def test_a_program_is_saved_with_its_threshold(make_routed: MakeRouted, tmp_path: Any, caplog: Any) -> None:
    class Outer(dspy.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.inner = make_routed(dspy.Predict("question -> answer"), **options)

    routed = make_routed(dspy.Predict("question -> answer"))
    routed.threshold = 0.05
    routed.save(tmp_path / "routed.json")
    loaded = make_routed(dspy.Predict("question -> answer"))
    loaded.load(tmp_path / "routed.json")
    assert loaded.threshold == 0.05
    assert loaded.decide(question="hi").tier == "strong"
    assert loaded.reset_copy().threshold == loaded.deepcopy().threshold == 0.05
    outer, again = Outer(threshold=0.7), Outer()
    outer.save(tmp_path / "outer.json")
    again.load(tmp_path / "outer.json")
    assert again.inner.threshold == 0.7
    other = make_routed(dspy.Predict("question -> answer"), router="random")
    other.load(tmp_path / "routed.json")
    assert other.threshold == 0.5
    assert "for another router" in caplog.text
    old = {"program": dspy.Predict("question -> answer").dump_state()}
    loaded.load_state(old)  # as it was saved before thresholds were
    assert loaded.threshold == 0.05


def test_options_that_are_assigned_take_effect(make_routed: MakeRouted) -> None:
    routed = make_routed(dspy.Predict("question -> answer"))
    routed.weak_lm = routed.strong_lm
    routed(question="hi")
    assert calls_by_model(routed.history) == {"openai/big": 1}
    routed.route_fields = ["topic"]
    with pytest.raises(UnsupportedPromptError):
        routed(question="hi")
    with pytest.raises(ConfigError, match="weak must be"):
        routed.weak_lm = 3


def test_names_and_bad_options(make_routed: MakeRouted, local_models: LocalModelServer) -> None:
    named = make_routed(
        dspy.Predict("question -> answer"), strong_lm="openai/big", weak_lm={"model": "openai/small"},
        api_base=local_models.base_url, api_key="k",
    )  # fmt: skip
    assert named(question="6 * 7").answer == "42"
    with pytest.raises(ConfigError, match=r"program must be a dspy\.Module, got str"):
        make_routed("question -> answer")
    with pytest.raises(ConfigError, match="strong must be"):
        make_routed(strong_lm=3)
