"""The model that is built from a litellm name, and the messages of other classes that it can read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.routellm import ResilientLiteLLM
from llama_index.llms.routellm.litellm_messages import to_openai

from routellm_core.errors import BackendError
from routellm_core.testing.local_models import LocalModelServer


@pytest.fixture
def small(local_models: LocalModelServer) -> ResilientLiteLLM:
    return ResilientLiteLLM("openai/small", api_base=local_models.base_url, api_key="local")


def get_weather(days: int) -> str:
    """Forecast the weather."""
    return f"sunny for {days} days"


def test_it_works_alone(small: ResilientLiteLLM) -> None:
    answer = small.complete("hello")
    assert answer.text == "small answers: hello"
    assert answer.additional_kwargs == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}
    assert list(small.stream_complete("hello"))[-1].additional_kwargs == answer.additional_kwargs
    again = ResilientLiteLLM.from_dict({**small.to_dict(), "api_key": "local"})
    assert again.complete("hello").text == answer.text
    assert "local" not in str(small.to_dict())


def test_what_was_streamed_does_not_grow(small: ResilientLiteLLM) -> None:
    chunks = list(small.stream_chat_with_tools([FunctionTool.from_defaults(get_weather)], "weather in 25 days"))
    arguments = [
        call["function"]["arguments"]
        for chunk in chunks
        for call in chunk.message.additional_kwargs.get("tool_calls", [])
    ]
    assert arguments[0] == ""
    assert arguments[-1] == '{"days": 25}'
    assert sorted(arguments, key=len) == arguments


def test_metadata_of_known_and_unknown_models() -> None:
    known = ResilientLiteLLM("gpt-4o", max_tokens=9).metadata
    assert (known.context_window, known.num_output, known.is_function_calling_model) == (128_000, 9, True)
    assert not ResilientLiteLLM("gpt-3.5-turbo-instruct").metadata.is_function_calling_model
    unknown = ResilientLiteLLM("openai/my-own", context_window=5000, is_function_calling=False).metadata
    assert (unknown.context_window, unknown.is_function_calling_model) == (5000, False)


def test_messages_that_another_class_answered() -> None:
    call = ToolCallBlock(tool_call_id="7", tool_name="get_weather", tool_kwargs={"days": 2})
    given = [
        ChatMessage(role="user", content="weather?"),
        ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="Let me see."), call]),
        ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": "7"}),
    ]
    sent: list[dict[str, Any]] = to_openai(given)
    assert sent[1]["content"] == "Let me see."
    assert sent[1]["tool_calls"] == [
        {"id": "7", "type": "function", "function": {"name": "get_weather", "arguments": '{"days": 2}'}}
    ]
    assert sent[2]["tool_call_id"] == "7"


def test_no_key_says_what_to_do() -> None:
    with LocalModelServer(api_key="right") as server:
        for key in (None, "wrong"):
            with pytest.raises(BackendError, match="Set the provider's key"):
                ResilientLiteLLM("openai/small", api_base=server.base_url, api_key=key).complete("x")


def test_a_pair_of_instances_needs_no_litellm() -> None:
    program = (
        "import sys\n"
        "from llama_index.core.llms import MockLLM\n"
        "from llama_index.llms.routellm import RouteLLM\n"
        "print(RouteLLM('mf', 0.5, strong=MockLLM(), weak=MockLLM(max_tokens=1)).complete('Hi').text)\n"
        # not openai: LlamaIndex imports it where its own package for it is installed
        "print(sorted({'litellm', 'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
