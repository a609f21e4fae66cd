"""Token counts out of a stream that passes by, and the event that a client did not ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routellm_core.server.usage import StreamedUsage, token_counts, with_usage

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def event(data: Any, end: str = "\n\n", name: str = "") -> bytes:
    return f"{name}data: {data if isinstance(data, str) else json.dumps(data)}{end}".encode()


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


FIRST, SECOND, DONE = event(chunk("a")), event(chunk("b", usage=None)), event("[DONE]")
LAST = event({"choices": [], "usage": USAGE})


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("is_hidden", [False, True])
def test_it_is_counted_and_taken_out_only_where_it_was_not_asked_for(end: str, is_hidden: bool) -> None:
    parts = [event(chunk("a"), end), event({"choices": [], "usage": USAGE}, end), event("[DONE]", end)]
    wanted = b"".join([parts[0], b"" if is_hidden else parts[1], parts[2]])
    for pieces in (parts, [b"".join(parts)], [b"".join(parts[:2]), parts[2]], [parts[0], b"".join(parts[1:])]):
        usage = StreamedUsage(is_hidden=is_hidden)
        assert b"".join(usage.passed(piece) for piece in pieces) == wanted
        assert usage.counts == {"input": 3, "output": 5}


@pytest.mark.parametrize(
    ("passing", "counts"),
    [
        (FIRST + SECOND + DONE, {}),
        (event(chunk("last", usage=USAGE)), {"input": 3, "output": 5}),  # beside a choice it is part of the answer
        (event(chunk('{"usage": {"prompt_tokens": 1}}')), {}),  # a model that talks about it
        (event('{"usage": {"prompt_tokens": broken'), {}),
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
    assert usage.passed(passing) == passing
    assert usage.counts == counts


def test_the_last_count_is_the_one_that_counts() -> None:
    usage = StreamedUsage(is_hidden=False)
    for tokens in (1, 2, 7):
        usage.passed(event(chunk("x", usage={"prompt_tokens": 3, "completion_tokens": tokens})))
    assert usage.counts == {"input": 3, "output": 7}


def test_the_forms_of_usage() -> None:
    assert token_counts(USAGE) == {"input": 3, "output": 5}
    assert token_counts({"input_tokens": 1, "output_tokens": 2}) == {"input": 1, "output": 2}
    assert token_counts({"prompt_tokens": 4, "total_tokens": 4}) == {"input": 4, "output": 0}  # embeddings
    for unusable in ({}, {"prompt_tokens": None}, {"prompt_tokens": 1, "completion_tokens": "2"}):
        assert token_counts(unusable) == {}


def test_asking_for_it_keeps_the_other_options() -> None:
    asked = with_usage({"model": "m", "stream_options": {"include_usage": False, "include_obfuscation": False}})
    assert asked == {"model": "m", "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert with_usage({"stream_options": None}) == {"stream_options": {"include_usage": True}}
