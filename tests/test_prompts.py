from __future__ import annotations

from typing import Any

import pytest

from routellm_core.errors import UnsupportedPromptError
from routellm_core.prompts import as_messages, message_text, routing_prompt

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


class Dumped:
    """Any client's own message object."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        return {key: value for key, value in self._fields.items() if value is not None or not exclude_none}


def test_what_has_a_model_dump_is_a_message_and_so_are_its_parts() -> None:
    from litellm.types.utils import Message
    from openai.types.chat import ChatCompletionMessage

    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for answer in (
        Message(content=None, role="assistant", tool_calls=[call]),
        ChatCompletionMessage(content=None, role="assistant", tool_calls=[call]),  # type: ignore[list-item]
        Dumped(role="assistant", content=None, refusal=None, tool_calls=[Dumped(**call)]),
        {"role": "assistant", "content": None, "tool_calls": [Dumped(**call)]},
    ):
        messages = [
            {"role": "user", "content": [Dumped(type="text", text="question")]},
            answer,
            {"role": "tool", "tool_call_id": "1", "content": "r"},
        ]
        plain = as_messages(messages)
        assert plain[0] == {"role": "user", "content": [{"type": "text", "text": "question"}]}
        assert plain[1] == {"role": "assistant", "content": None, "tool_calls": [call]}
        assert routing_prompt(messages) == "question"


def test_plain_messages_stay_as_they_are() -> None:
    messages = [{"role": "user", "content": "q", "name": None}, {"role": "assistant", "content": [CALL], "x": IMAGE}]
    assert as_messages(messages) == messages
    assert as_messages(tuple(messages)) == messages
