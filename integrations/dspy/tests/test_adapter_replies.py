"""Prompts of DSPy's adapters get answers in their format, from the request alone."""

from __future__ import annotations

import json
from typing import Any

import dspy_routellm_adapter_replies as replies  # loaded by conftest
import pytest

from routellm_core.testing.replies import completion

CHAT = (
    "[[ ## question ## ]]\n{question}\n\nRespond with the corresponding output fields, starting with the field "
    "`[[ ## reasoning ## ]]`, then `[[ ## answer ## ]]` (must be formatted as a valid Python int), and then ending "
    "with the marker for `[[ ## completed ## ]]`."
)
JSON = (
    "[[ ## question ## ]]\n{question}\n\nRespond with a JSON object in the following order of fields: `reasoning`, "
    "then `answer` (must be formatted as a valid Python int), then `mood` (must be formatted as a valid Python "
    "Literal['good', 'bad'])."
)
XML = (
    "<question>\n{question}\n</question>\n\n"
    "Respond with the corresponding output fields wrapped in XML tags `<answer>`."
)


def reply(prompt: str, model: str = "big", system: str = "", **parameters: Any) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    request = {"model": model, "messages": messages, **parameters}
    return completion(request, replies.adapter_reply)["choices"][0]["message"]["content"]


def test_chat_format() -> None:
    expected = "[[ ## reasoning ## ]]\nbig thinks about it.\n\n[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]"
    assert reply(CHAT.format(question="What is 6 * 7?")) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "n",
                    "schema": {
                        "properties": {
                            "reasoning": {"type": "string"},
                            "answer": {"type": "integer"},
                            "mood": {"enum": ["good", "bad"]},
                        },
                    },
                },
            }
        },
    ],
)
def test_json_format(parameters: dict[str, Any]) -> None:
    answer = json.loads(reply(JSON.format(question="What bad number is 6 * 7?"), **parameters))
    assert answer == {"reasoning": "big thinks about it.", "answer": 42, "mood": "bad"}


def test_xml_format_takes_types_from_the_description() -> None:
    system = "Your input fields are:\n1. `question` (str):\nYour output fields are:\n1. `answer` (float):"
    assert reply(XML.format(question="What is 7 / 2?"), system=system) == "<answer>\n3.5\n</answer>"


@pytest.mark.parametrize(
    ("question", "right"), [("6 * 7", False), ("8 / 2", False), ("6 + 7", True), ("9 minus 2", True)]
)
def test_weak_models_add_but_do_not_multiply(question: str, right: bool) -> None:
    answers = [reply(CHAT.format(question=question), model) for model in ("big", "small", "gpt-4o-mini", "local-weak")]
    numbers = [answer.split("## answer ## ]]\n")[1].split("\n")[0] for answer in answers]
    assert [number == numbers[0] for number in numbers[1:]] == [right] * 3


def test_an_agent_calls_its_tool_once_and_finishes() -> None:
    system = (
        "(1) add, whose description is <desc>Adds.</desc>. It takes arguments {'a': {'type': 'integer'}, 'b': "
        "{'type': 'integer'}}.\n(2) finish, whose description is <desc>Done.</desc>. It takes arguments {}."
    )
    fields = "`next_thought`, then `next_tool_name`, then `next_tool_args`."
    prompt = "[[ ## question ## ]]\n6 + 7\n\n[[ ## trajectory ## ]]\n{trajectory}\n\nRespond with a JSON object in the "
    prompt += f"following order of fields: {fields}"
    first = json.loads(reply(prompt.format(trajectory=""), system=system))
    assert (first["next_tool_name"], first["next_tool_args"]) == ("add", {"a": 6, "b": 7})
    seen = json.loads(reply(prompt.format(trajectory="[[ ## observation_0 ## ]]\n13"), system=system))
    assert (seen["next_tool_name"], seen["next_tool_args"]) == ("finish", {})


def test_other_prompts_are_answered_as_ever() -> None:
    assert reply("What is 6 * 7?") == "big answers: What is 6 * 7?"
