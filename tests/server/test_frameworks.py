"""Frameworks' own OpenAI clients, unchanged, against the running server."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from routellm_core.testing.local_models import LocalModelServer

STRONG, WEAK = "router-random-0.0", "router-random-1"


class Weather(BaseModel):
    """Get the weather of a city."""

    city: str


class TestChatOpenAI:
    @pytest.fixture
    def chat(self, running: Any) -> Any:
        module = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
        return lambda **options: module.ChatOpenAI(
            **{"model": STRONG, "base_url": running.base_url, "api_key": "EMPTY", "max_retries": 0, **options}
        )

    def test_invoke_and_stream(self, chat: Any) -> None:
        answer = chat().invoke([("system", "Be brief."), ("human", "Hello!")])
        assert answer.content == "big answers: Hello!"
        assert answer.usage_metadata["total_tokens"] > 0
        chunks = list(chat(model=WEAK, stream_usage=True).stream("Hello!"))
        assert "".join(chunk.content for chunk in chunks) == "small answers: Hello!"
        total = chunks[0]
        for chunk in chunks[1:]:
            total += chunk
        assert total.usage_metadata["output_tokens"] > 0

    async def test_asynchronously(self, chat: Any) -> None:
        assert (await chat().ainvoke("Hello!")).content == "big answers: Hello!"
        assert "".join([chunk.content async for chunk in chat().astream("Hello!")]) == "big answers: Hello!"

    def test_tools(self, chat: Any) -> None:
        bound = chat().bind_tools([Weather], tool_choice="any")
        assert bound.invoke("In 'Oslo'?").tool_calls[0]["args"] == {"city": "Oslo"}
        named = chat().bind_tools([Weather], tool_choice="Weather")
        chunks = list(named.stream("In 'Oslo'?"))
        total = chunks[0]
        for chunk in chunks[1:]:
            total += chunk
        assert total.tool_calls[0]["args"] == {"city": "Oslo"}

    @pytest.mark.parametrize("method", ["json_schema", "function_calling"])
    def test_structured_output(self, chat: Any, method: str) -> None:
        assert chat().with_structured_output(Weather, method=method).invoke("In 'Oslo'?") == Weather(city="Oslo")

    def test_the_responses_api(self, chat: Any) -> None:
        model = chat(use_responses_api=True)
        assert model.invoke("Hello!").text == "big answers: Hello!"
        assert "".join(chunk.text for chunk in model.stream("Hello!")) == "big answers: Hello!"
        assert model.bind_tools([Weather], tool_choice="any").invoke("In 'Oslo'?").tool_calls[0]["name"] == "Weather"


@pytest.fixture(scope="module")
def gpt_4o(build: Any, local_models: LocalModelServer) -> Any:
    # LlamaIndex's OpenAI class looks its model's name up in a fixed list: a client that names one of the two models.
    with build(local_models, strong="gpt-4o", weak="openai/small") as server:
        yield server


class TestLlamaIndex:
    @pytest.fixture(params=["OpenAI", "OpenAILike", "OpenAILike-chat"])
    def llm(self, request: pytest.FixtureRequest, gpt_4o: Any) -> Any:
        reason = "llama-index-llms-openai-like is not installed"
        if request.param == "OpenAI":
            module = pytest.importorskip("llama_index.llms.openai", reason=reason)
            return module.OpenAI(
                model="gpt-4o", api_base=gpt_4o.base_url, api_key="EMPTY", max_retries=0, reuse_client=False
            )
        module = pytest.importorskip("llama_index.llms.openai_like", reason=reason)
        return module.OpenAILike(
            model=STRONG,
            api_base=gpt_4o.base_url,
            api_key="EMPTY",
            is_chat_model=request.param.endswith("chat"),
            max_retries=0,
        )

    def test_chat_and_complete(self, llm: Any) -> None:
        from llama_index.core.llms import ChatMessage

        assert str(llm.complete("Hello!")) == "gpt-4o answers: Hello!"
        answer = llm.chat([ChatMessage(role="user", content="Hello!")]).message.content
        assert answer.startswith("gpt-4o answers: ")
        assert "Hello!" in answer

    def test_streams(self, llm: Any) -> None:
        from llama_index.core.llms import ChatMessage

        assert list(llm.stream_complete("Hello!"))[-1].text == "gpt-4o answers: Hello!"
        last = list(llm.stream_chat([ChatMessage(role="user", content="Hello!")]))[-1]
        assert last.message.content.startswith("gpt-4o answers: ")

    async def test_asynchronously(self, llm: Any) -> None:
        assert str(await llm.acomplete("Hello!")) == "gpt-4o answers: Hello!"
        stream = await llm.astream_complete("Hello!")
        assert [part async for part in stream][-1].text == "gpt-4o answers: Hello!"


class TestDSPy:
    def test_its_lm(self, running: Any) -> None:
        dspy = pytest.importorskip("dspy", reason="dspy is not installed")
        lm = dspy.LM(f"openai/{STRONG}", api_base=running.base_url, api_key="EMPTY", cache=False, num_retries=0)
        assert lm("Hello!")[0] == "big answers: Hello!"

    def test_a_program_on_its_lm(self, build: Any) -> None:
        dspy = pytest.importorskip("dspy", reason="dspy is not installed")
        fields = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
        with LocalModelServer(reply=lambda _request: fields) as models, build(models) as server:
            lm = dspy.LM(f"openai/{STRONG}", api_base=server.base_url, api_key="EMPTY", cache=False, num_retries=0)
            with dspy.context(lm=lm):
                assert dspy.Predict("question -> answer")(question="the capital of France?").answer == "Paris"

    def test_its_responses_mode(self, running: Any) -> None:
        dspy = pytest.importorskip("dspy", reason="dspy is not installed")
        lm = dspy.LM(
            f"openai/{WEAK}",
            model_type="responses",
            api_base=running.base_url,
            api_key="EMPTY",
            cache=False,
            num_retries=0,
        )
        answer = lm("Hello!")[0]
        assert (answer["text"] if isinstance(answer, dict) else answer) == "small answers: Hello!"


class TestLiteLLM:
    def options(self, running: Any, model: str = STRONG) -> dict[str, Any]:
        return {
            "model": f"openai/{model}",
            "api_base": running.base_url,
            "api_key": "EMPTY",
            "max_retries": 0,
            "messages": [{"role": "user", "content": "Hello!"}],
        }

    def test_plain_and_streamed(self, running: Any) -> None:
        import litellm

        assert litellm.completion(**self.options(running)).choices[0].message.content == "big answers: Hello!"
        chunks = list(litellm.completion(**self.options(running, WEAK), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "small answers: Hello!"

    async def test_asynchronously(self, running: Any) -> None:
        import litellm

        answer = await litellm.acompletion(**self.options(running))
        assert answer.choices[0].message.content == "big answers: Hello!"
        stream = await litellm.acompletion(**self.options(running), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == "big answers: Hello!"
