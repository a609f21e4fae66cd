from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from routellm_core.errors import UnsupportedPromptError
from routellm_core.prompts import message_text, plain_messages, routing_prompt

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "Hi"}], "Hi"),
        ([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}], "Q"),
        ([{"role": "user", "content": "first"}, {"role": "user", "content": "second"}], "second"),
        (
            [
                {"role": "user", "content": "question"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "1", "content": "result"},
            ],
            "question",
        ),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "q"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE, {"type": "text", "text": "here"}]}],
            "Look\nhere",
        ),
        ([{"role": "user", "content": "text"}, {"role": "user", "content": [IMAGE]}], "text"),
        ([{"role": "user", "content": [IMAGE]}], None),
        ([{"role": "system", "content": "only system"}], None),
        ([{"role": "user", "content": "   "}], None),
        ([{"role": "user"}], None),
    ],
)
def test_the_last_real_user_message_is_routed_on(messages: list[dict[str, Any]], expected: str | None) -> None:
    assert routing_prompt(messages) == expected


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "messages is empty"),
        ("hello", "must be a list"),
        (None, "must be a list"),
        ({"role": "user"}, "must be a list"),
        (["hello"], r"messages\[0\] must be a mapping"),
        ([{"role": "user", "content": "x"}, {"content": "y"}], r"messages\[1\] has no 'role'"),
    ],
)
def test_malformed_messages_are_refused(messages: Any, said: str) -> None:
    with pytest.raises(UnsupportedPromptError, match=said):
        routing_prompt(messages)


def test_message_text_passes_over_what_is_not_text() -> None:
    assert (
        message_text({"role": "user", "content": [IMAGE, {"type": "input_text", "text": "a"}, "b", {"text": 3}]})
        == "a\nb"
    )


class Sdk(BaseModel):
    """An object of an SDK."""

    model_config = ConfigDict(extra="allow")


def test_objects_of_an_sdk_are_the_mappings_that_they_stand_for() -> None:
    call = Sdk(id="t", type="function", function=Sdk(name="f", arguments="{}"))
    part = Sdk(type="text", text="What is it?", annotations=None)
    messages: list[Any] = [
        {"role": "user", "content": [part]},
        Sdk(role="assistant", content=None, tool_calls=[call], refusal=None),
        {"role": "tool", "tool_call_id": "t", "content": "3"},
    ]
    assert plain_messages(messages) == [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        messages[2],
    ]
    assert routing_prompt(messages) == "What is it?"


def test_plain_messages_are_the_same_object() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert plain_messages(messages) is messages
    assert plain_messages("Hi") == "Hi"
