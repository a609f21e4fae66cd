"""A given ``dspy.LM`` is called as it would call itself; what one call says beside its request reaches the model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request
from dspy_routellm import RouteLLM

from routellm_core.testing.local_models import LocalModelServer

MakeLM = Callable[..., RouteLLM]


class Intern(dspy.LM):
    """An LM of one's own: what it is asked never leaves the house."""

    asked: list[Any]

    def forward(self, prompt: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        self.__dict__.setdefault("asked", []).append(messages)
        from litellm import ModelResponse

        said = {"role": "assistant", "content": "from the house"}
        return ModelResponse(
            choices=[{"message": said, "finish_reason": "stop"}],
            usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            model=self.model,
        )

    async def aforward(self, prompt: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        return self.forward(prompt, messages, **kwargs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_subclasss_own_forward_is_called(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    own = Intern("openai/big", api_base=local_models.base_url, api_key="own")
    lm = make_lm(own, cache=False)
    before = len(local_models.requests)
    assert lm("6 * 7") == await lm.acall("6 * 7") == ["from the house"]
    request = Request(model=lm.model, messages=(Message.user("6 * 7"),))
    said = "".join(event.delta.text for event in lm.engine.stream(request) if event.type == "delta")
    assert said == "from the house"
    assert len(own.asked) == 3
    assert len(local_models.requests) == before
    assert own.history == []


def test_an_lm_on_the_native_engine_needs_no_litellm(local_models: LocalModelServer) -> None:
    program = (
        "import sys, dspy\n"
        "from dspy_routellm import RouteLLM\n"
        "dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)\n"
        f"given = dict(api_base={local_models.base_url!r}, api_key='k')\n"
        "strong, weak = (dspy.LM(f'openai/{name}', **given) for name in ('big', 'small'))\n"
        "lm = RouteLLM('mf', 0.5, strong=strong, weak=weak)\n"
        "print(lm('Hi')[0], 'litellm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "small answers: Hi False", done.stderr


async def test_what_one_call_says_reaches_the_model(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    for given in ("openai/small", dspy.LM("openai/small", api_base=local_models.base_url, api_key="k")):
        dspy.cache.reset_memory_cache()
        lm = make_lm(weak=given)
        lm("Hello!", extra_body={"top_a": 0.5})
        assert local_models.requests[-1]["top_a"] == 0.5
        await lm.acall("Hello!", extra_body={"top_a": 0.7})
        assert local_models.requests[-1]["top_a"] == 0.7
        before = len(local_models.requests)
        lm("Hello!")
        assert len(local_models.requests) == before + 1
        assert "top_a" not in local_models.requests[-1]
        lm("Hello!", extra_headers={"x-mine": "yes"})
        assert len(local_models.requests) == before + 2
        tools = [{"type": "web_search_preview"}]
        lm("Hello!", tools=tools)
        assert local_models.requests[-1]["tools"] == tools
        assert lm.kwargs == {"temperature": None, "max_tokens": None}


def test_a_time_limit_of_one_call(make_lm: MakeLM) -> None:
    lm = make_lm("openai/slow-5", cache=False)
    lm("Hello!")  # loads what calls models
    started = time.monotonic()
    assert lm("6 * 7", timeout=0.3) == ["small answers: 6 * 7"]
    assert time.monotonic() - started < 4


def test_options_that_are_assigned_take_effect(make_lm: MakeLM) -> None:
    lm = make_lm()
    lm.threshold = 0.05
    assert lm("Hello!") == ["big answers: Hello!"]
    lm.strong = {"model": "openai/other", "api_base": lm.weak_lm.kwargs["api_base"], "api_key": "k"}
    assert lm("Hello!") == ["other answers: Hello!"]
    lm.weak_lm = lm.strong_lm
    lm.threshold = 0.95
    assert lm("Hello!") == ["other answers: Hello!"]
    with pytest.raises(Exception, match="weak must be"):
        lm.weak = 3
    assert lm.copy(route_fields=["x"]).routing.route_fields == ("x",)
    assert lm.routing.route_fields is None


def test_two_models_of_one_name(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    strong, weak = (
        {"model": "openai/big", "api_base": local_models.base_url, "api_key": "k", "extra": {"seed": seed}}
        for seed in (1, 2)
    )
    lm = make_lm(strong, weak)
    for text, seed in (("6 * 7", 1), ("Hello!", 2)):
        lm(text)
        assert local_models.requests[-1]["seed"] == seed
    assert lm.model_counts == {"openai/big (strong)": 1, "openai/big (weak)": 1}
    dead = make_lm({**strong, "api_base": "http://127.0.0.1:1/v1"}, weak, cache=False)
    assert dead("6 * 7") == ["big answers: 6 * 7"]
    assert dead.model_counts == {"openai/big (weak)": 1}
    assert "openai/big (strong) failed" in dead.history[-1]["routing"]["reason"]


class Unsteady:
    """An engine that is down for its first call."""

    def __init__(self, child: dspy.LM) -> None:
        self.child, self.calls = child, 0

    def complete(self, request: Request) -> Any:
        from dspy.lm15 import ServerError

        self.calls += 1
        if self.calls == 1:
            raise ServerError("down")
        return self.child(Request(model=self.child.model, messages=request.messages, system=request.system))


def test_react_stays_where_it_went_after_a_fallback(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    def multiply(a: int, b: int) -> int:
        """Multiplies."""
        return a * b

    up = dspy.LM("openai/big", api_base=local_models.base_url, api_key="k", engine="litellm")
    engine = Unsteady(up)
    lm = make_lm(dspy.LM("custom/strong", engine=engine), cache=False)
    with dspy.context(lm=lm):
        dspy.ReAct("question -> answer: int", tools=[multiply])(question="What is 6 * 7?")
        assert (engine.calls, set(lm.model_counts)) == (1, {"openai/small"})
        dspy.Predict("question -> answer")(question="What is 6 * 7?")  # another question, asked anew
    assert engine.calls == 2


def test_models_that_cannot_take_a_request_are_passed_over(make_lm: MakeLM, local_models: LocalModelServer) -> None:
    narrow = {"model": "openai/small", "api_base": local_models.base_url, "api_key": "k", "context_window": 300}
    lm = make_lm(weak=narrow)
    with dspy.context(lm=lm):
        dspy.Predict("context, question -> answer")(context="word " * 900, question="hi?")
    routing = lm.history[-1]["routing"]
    assert routing["model"] == "openai/big"
    assert "openai/small" in routing["reason"]
    with pytest.raises(dspy.LMError, match="context window"):
        make_lm(strong={**narrow, "model": "openai/big"}, weak=narrow)("word " * 2000)
