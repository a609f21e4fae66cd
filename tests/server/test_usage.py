"""Token counts out of a stream that passes by, and the event that a client did not ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routellm_core.providers.events import EventReader
from routellm_core.server.usage import StreamedUsage, estimated_input, estimated_output, token_counts, with_usage

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def event(data: Any, end: str = "\n\n", name: str = "") -> bytes:
    return f"{name}data: {data if isinstance(data, str) else json.dumps(data)}{end}".encode()


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


def passed(usage: StreamedUsage, *pieces: bytes) -> bytes:
    reader = EventReader("chat/completions", "m")
    return b"".join(usage.passed(reader.feed(piece)) for piece in pieces)


FIRST, SECOND, DONE = event(chunk("a")), event(chunk("b", usage=None)), event("[DONE]")
LAST = event({"choices": [], "usage": USAGE})


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("is_hidden", [False, True])
def test_it_is_counted_and_taken_out_only_where_it_was_not_asked_for(end: str, is_hidden: bool) -> None:
    parts = [event(chunk("a"), end), event({"choices": [], "usage": USAGE}, end), event("[DONE]", end)]
    wanted = b"".join([parts[0], b"" if is_hidden else parts[1], parts[2]])
    for pieces in (parts, [b"".join(parts)], [b"".join(parts[:2]), parts[2]], [parts[0], b"".join(parts[1:])]):
        usage = StreamedUsage(is_hidden=is_hidden)
        assert passed(usage, *pieces) == wanted
        assert usage.counts == {"input": 3, "output": 5}


@pytest.mark.parametrize(
    ("passing", "counts"),
    [
        (FIRST + SECOND + DONE, {}),
        (event(chunk("last", usage=USAGE)), {"input": 3, "output": 5}),  # beside a choice it is part of the answer
        (event(chunk('{"usage": {"prompt_tokens": 1}}')), {}),  # a model that talks about it
        (b': "usage": {}\n\n', {}),
        (
            event({"type": "response.completed", "response": {"usage": {"input_tokens": 2, "output_tokens": 4}}}),
            {"input": 2, "output": 4},
        ),
        (event({"choices": [1], "usage": {"prompt_tokens": "many"}}), {}),
    ],
)
def test_everything_else_passes_as_it_is(passing: bytes, counts: dict[str, int]) -> None:
    usage = StreamedUsage(is_hidden=True)
    assert passed(usage, passing) == passing
    assert usage.counts == counts


def test_the_last_count_is_the_one_that_counts() -> None:
    usage = StreamedUsage(is_hidden=False)
    for tokens in (1, 2, 7):
        passed(usage, event(chunk("x", usage={"prompt_tokens": 3, "completion_tokens": tokens})))
    assert usage.counts == {"input": 3, "output": 7}


def test_the_forms_of_usage() -> None:
    assert token_counts(USAGE) == {"input": 3, "output": 5}
    assert token_counts({"input_tokens": 1, "output_tokens": 2}) == {"input": 1, "output": 2}
    assert token_counts({"prompt_tokens": 4, "total_tokens": 4}) == {"input": 4, "output": 0}  # embeddings
    details = {"cached_tokens": 3}
    assert token_counts({**USAGE, "prompt_tokens_details": details}) == {"input": 3, "output": 5, "cached": 3}
    anthropic = {"input_tokens": 1, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 2, "output_tokens": 4}
    assert token_counts(anthropic) == {"input": 10, "output": 4, "cached": 7, "written": 2}
    for unusable in ({}, {"prompt_tokens": None}, {"prompt_tokens": 1, "completion_tokens": "2"}):
        assert token_counts(unusable) == {}


def test_asking_for_it_keeps_the_other_options() -> None:
    asked = with_usage({"model": "m", "stream_options": {"include_usage": False, "include_obfuscation": False}})
    assert asked == {"model": "m", "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert with_usage({"stream_options": None}) == {"stream_options": {"include_usage": True}}


def test_estimates_go_by_the_length_of_texts_not_of_images() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000_000}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "x" * 400}, image]}]
    assert 1100 <= estimated_input({"messages": messages}) <= 1110
    assert estimated_input({"prompt": [1, 2, 3]}) == 3
    assert estimated_input({"input": ["four" * 10, "four" * 10]}) == 20
    assert estimated_output({}) == 1024
    assert estimated_output({"max_tokens": 10, "n": 3}) == 30
    assert estimated_output({"max_completion_tokens": 7, "max_tokens": "x"}) == 7


def test_what_passed_is_measured_in_all_forms() -> None:
    usage = StreamedUsage(is_hidden=False)
    call = {"index": 0, "id": "call_123", "function": {"name": "f", "arguments": "{}..."}}
    said = [{"delta": {"role": "assistant", "content": "12345"}}, {"delta": {"tool_calls": [call]}}, {"text": "123"}]
    passed(usage, *(event({"choices": [choice]}) for choice in said))
    passed(usage, event({"type": "response.output_text.delta", "delta": "1234"}))
    assert (usage.characters, usage.made) == (5 + 6 + 3 + 4, 5)
