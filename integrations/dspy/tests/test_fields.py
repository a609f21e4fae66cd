"""What is routed on: the signature's input fields, under every adapter and in every loop; never demos."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy_routellm import RouteLLM
from dspy_routellm.fields import input_text

from routellm_core.errors import UnsupportedPromptError
from routellm_core.testing.local_models import LocalModelServer

MakeLM = Callable[..., RouteLLM]
Asked = Callable[[RouteLLM], list[str]]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
ADAPTERS = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": dspy.XMLAdapter,
    "baml": BAMLAdapter,
    "chat with native tools": lambda: dspy.ChatAdapter(use_native_function_calling=True),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> dspy.Adapter:
    return ADAPTERS[request.param]()


def multiply(a: int, b: int) -> int:
    """Multiplies."""
    return a * b


def test_the_value_is_routed_on_and_nothing_around_it(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked) -> None:
    predict = dspy.Predict(dspy.Signature("question -> answer", "Multiply, as in 2 * 2, or say hello."))
    predict.demos = [dspy.Example(question="What is 3 * 3?", answer="9"), dspy.Example(question="4 * 4?", answer="16")]
    with dspy.context(lm=lm, adapter=adapter):
        predict(question="hi?")
        dspy.ChainOfThought("question -> answer: int")(question="What is 6 * 7?")
    assert asked(lm) == ["hi?", "What is 6 * 7?"]
    assert lm.model_counts == {"openai/small": 1, "openai/big": 1}


def test_every_type_of_field_and_line_breaks(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked) -> None:
    predict = dspy.Predict("question, passages: list[str], limit: int -> answer, label: Literal['yes', 'no']")
    lists = dspy.Predict("passages: list[str], notes: list[str] | None -> answer")
    with dspy.context(lm=lm, adapter=adapter):
        predict(question="line one\n\nline two", passages=["first", "second"], limit=3)
        lists(passages=["first", "second"], notes=["third"])
    text, listed = asked(lm)
    assert text == "line one\n\nline two\n\n3"
    assert all(word in listed for word in ("first", "second", "third"))
    assert "Respond" not in listed


@pytest.mark.parametrize("field", ["context", "passages: list[str]", "retrieved_docs: str", "rows: list[int]"])
def test_material_is_not_routed_on(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked, field: str) -> None:
    name, _, kind = field.partition(":")
    value: Any = "2 * 2 and much more" if "list" not in kind else [2] if "int" in kind else ["2 * 2", "more"]
    with dspy.context(lm=lm, adapter=adapter):
        dspy.ChainOfThought(f"{field}, question -> answer")(**{name: value, "question": "hi?"})
        dspy.Predict(f"{field} -> answer")(**{name: value})
    first, second = asked(lm)
    assert first == "hi?"
    assert "2" in second


def test_route_fields_restrict(make_lm: MakeLM, adapter: dspy.Adapter, asked: Asked) -> None:
    lm = make_lm(route_fields=["question"])
    with dspy.context(lm=lm, adapter=adapter):
        dspy.Predict("context, question -> answer")(context="2 * 2 and much more", question="hi?")
        dspy.Predict("text -> summary")(text="a text of its own")
    assert asked(lm) == ["hi?", "a text of its own"]


def test_two_step_adapter_and_its_extraction(make_lm: MakeLM, asked: Asked) -> None:
    lm, extractor = make_lm(), make_lm()
    with dspy.context(lm=lm, adapter=dspy.TwoStepAdapter(extractor)):
        dspy.Predict("question, context -> answer: int")(question="What is 6 * 7?", context="a: b\n\nc: d")
    assert asked(lm) == ["What is 6 * 7?"]
    (extracted,) = asked(extractor)
    assert extracted.startswith("big answers:")
    assert "Respond" not in extracted


def test_a_history_is_not_routed_on(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked) -> None:
    history = dspy.History(messages=[{"question": "What is 2 * 2?", "answer": "4"}])
    with dspy.context(lm=lm, adapter=adapter):
        dspy.Predict("question, history: dspy.History -> answer")(question="thanks", history=history)
    assert asked(lm) == ["thanks"]


def test_an_image_passes_through_and_its_text_decides(
    make_lm: MakeLM, adapter: dspy.Adapter, asked: Asked, local_models: LocalModelServer
) -> None:
    lm = make_lm(no_prompt_tier="weak")
    with dspy.context(lm=lm, adapter=adapter):
        dspy.Predict("image: dspy.Image, question -> answer")(image=dspy.Image(PIXEL), question="6 * 7?")
        sent = [part["type"] for part in local_models.requests[-1]["messages"][-1]["content"]]
        describe = dspy.Predict("image: dspy.Image -> answer")
        describe.demos = [dspy.Example(image=dspy.Image(PIXEL), answer="2 * 2")]
        describe(image=dspy.Image(PIXEL))
    assert "image_url" in sent
    assert asked(lm) == ["6 * 7?"]
    assert "no user text" in lm.history[-1]["routing"]["reason"]
    assert lm.history[-1]["routing"]["tier"] == "weak"


def test_react_keeps_its_model(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked) -> None:
    with dspy.context(lm=lm, adapter=adapter):
        strong = dspy.ReAct("question -> answer: int", tools=[multiply])(question="What is 6 * 7?")
        dspy.ReAct("question -> answer", tools=[multiply])(question="hi 4?")
    assert strong.trajectory["observation_0"] == strong.answer == 42
    assert set(asked(lm)) == {"What is 6 * 7?", "hi 4?"}
    assert lm.model_counts == {"openai/big": 3, "openai/small": 3}


def test_native_function_calling_keeps_its_model(make_lm: MakeLM, asked: Asked, local_models: LocalModelServer) -> None:
    lm = make_lm("openai/gpt-4o", "openai/gpt-4o-mini")
    with warnings.catch_warnings(), dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        warnings.simplefilter("ignore")  # ReActV2 is experimental, and says so
        agent = dspy.ReActV2("question -> answer: int", tools=[multiply], max_iters=2)
        agent(question="multiply 6 * 7")
    assert any(message.get("tool_calls") for message in local_models.requests[-1]["messages"])
    assert len(lm.history) >= 2
    assert set(asked(lm)) == {"multiply 6 * 7"}
    assert set(lm.model_counts) == {"openai/gpt-4o"}


class Interpreter:
    """Runs what the model writes, in place of DSPy's, which needs Deno."""

    tools: ClassVar[dict[str, Callable[..., Any]]] = {}

    def start(self) -> None: ...

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        return "42" if "print" in code else None

    def shutdown(self) -> None: ...


@pytest.mark.parametrize("module", ["ProgramOfThought", "CodeAct"])
def test_code_loops_keep_their_model(lm: RouteLLM, asked: Asked, module: str) -> None:
    options = {"tools": [multiply]} if module == "CodeAct" else {}
    with warnings.catch_warnings(), dspy.context(lm=lm):
        warnings.simplefilter("ignore")  # both are deprecated in favour of RLM
        program = getattr(dspy, module)("question -> answer", interpreter_factory=Interpreter, **options)
        program(question="What is 6 * 7?")
    assert len(lm.history) >= 2
    assert set(asked(lm)) == {"What is 6 * 7?"}


def test_retried_modules_do_not_route_on_their_advice(make_lm: MakeLM, asked: Asked) -> None:
    lm = make_lm()
    with dspy.context(lm=lm):
        best = dspy.BestOfN(dspy.Predict("question -> answer"), N=2, reward_fn=lambda *_: 0.0, threshold=1.0)
        best(question="hi?")
        refine = dspy.Refine(dspy.Predict("question -> answer"), N=2, reward_fn=lambda *_: 0.0, threshold=1.0)
        refine(question="hello?")
    texts = asked(lm)
    assert {"hi?", "hello?"} <= set(texts)
    assert texts[-1] == "hello?"  # after a round of advice, which is a call of its own


def test_a_users_own_trajectory_is_routed_on_when_asked_for(make_lm: MakeLM, asked: Asked) -> None:
    lm = make_lm(route_fields=["trajectory"])
    with dspy.context(lm=lm):
        dspy.Predict("trajectory, kind -> answer")(trajectory="up, down", kind="x")
    assert asked(lm) == ["up, down"]


def test_direct_prompts_are_routed_on_as_they_are(lm: RouteLLM, asked: Asked) -> None:
    lm("Write like this:\n[[ ## answer ## ]]\nfoo")
    assert asked(lm) == ["Write like this:\n[[ ## answer ## ]]\nfoo"]


def test_field_values_that_look_like_the_format(lm: RouteLLM, asked: Asked) -> None:
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question="Respond with the corresponding output fields of 6 * 7, please")
    assert asked(lm) == ["Respond with the corresponding output fields of 6 * 7, please"]


def test_inputs_of_a_program_call() -> None:
    inputs = {"question": "hi?", "limit": 3, "passages": ["a", "b"], "image": dspy.Image(PIXEL), "nothing": None}
    assert input_text(inputs) == "hi?\n\n3"
    assert input_text({"passages": ["a", "b"], "image": dspy.Image(PIXEL)}) == "a\nb"
    assert input_text(inputs, ["question"]) == "hi?"
    assert input_text({"image": dspy.Image(PIXEL)}) is None
    assert input_text({"trajectory": "x"}) is None
    with pytest.raises(UnsupportedPromptError, match="was called with question"):
        input_text(inputs, ["querstion"])


class Sentiment(dspy.Signature):
    """Say how it feels, as in 3 * 3."""

    sentence: str = dspy.InputField(desc="any sentence, even 5 * 5")
    mood: Literal["good", "bad"] = dspy.OutputField()


def test_descriptions_are_not_routed_on(lm: RouteLLM, adapter: dspy.Adapter, asked: Asked) -> None:
    with dspy.context(lm=lm, adapter=adapter):
        assert dspy.Predict(Sentiment)(sentence="a bad day").mood == "bad"
    assert asked(lm) == ["a bad day"]
