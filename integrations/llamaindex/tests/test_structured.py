"""Structured prediction in its four forms, and structured LLMs."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel

# LlamaIndex's StructuredLLM calls a deprecated method of pydantic when it streams.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:DeprecationWarning")

PROMPT = PromptTemplate("Some hard context: {context_str}\nFind the finding in: {query_str}")
ARGUMENTS = {"context_str": "documents", "query_str": "finding 7"}


class Finding(BaseModel):
    """What was found."""

    number: int


@pytest.mark.parametrize("mode", [PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION])
async def test_structured_prediction_is_routed_on_the_question(build: Any, mode: PydanticProgramMode) -> None:
    llm = build(pydantic_program_mode=mode)
    found = [
        llm.structured_predict(Finding, PROMPT, **ARGUMENTS),
        await llm.astructured_predict(Finding, PROMPT, **ARGUMENTS),
        list(llm.stream_structured_predict(Finding, PROMPT, **ARGUMENTS))[-1],
        [item async for item in await llm.astream_structured_predict(Finding, PROMPT, **ARGUMENTS)][-1],
    ]
    assert [item.number for item in found] == [7] * 4
    assert build.scored == ["finding 7"]
    assert build.answered == ["small"] * 4


def test_a_call_can_name_its_model_among_the_models_arguments(build: Any) -> None:
    llm = build()
    given = {"model": "strong", "temperature": 0.2}
    assert llm.structured_predict(Finding, PROMPT, llm_kwargs=given, **ARGUMENTS).number == 7
    assert (build.answered, build.requests[-1]["temperature"]) == (["big"], 0.2)
    assert given == {"model": "strong", "temperature": 0.2}


def test_a_template_variable_may_be_called_model(build: Any) -> None:
    assert "A6" in build().predict(PromptTemplate("A hard question on the {model}"), model="A6")
    assert build.answered == ["big"]


async def test_structured_llms(build: Any) -> None:
    structured = build().as_structured_llm(Finding)
    asked = [ChatMessage(role="user", content="A hard finding: 5")]
    answers = [structured.chat(asked), await structured.achat(asked), structured.complete("A hard finding: 5")]
    assert [answer.raw.number for answer in answers] == [5] * 3
    assert list(structured.stream_chat(asked))[-1].raw.number == 5
    assert [chunk async for chunk in await structured.astream_chat(asked)][-1].raw.number == 5
    assert build.answered == ["big"] * 5
    assert structured.predict(PROMPT, **ARGUMENTS) == '{"number":7}'
    assert await structured.apredict(PROMPT, **ARGUMENTS) == '{"number":7}'
    assert "".join([token async for token in await structured.astream(PROMPT, **ARGUMENTS)]) == ""  # deltas have none
    assert build.scored == ["A hard finding: 5", "finding 7"]
