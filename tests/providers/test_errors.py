"""Which foreign errors are worth asking the other model about."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from routellm_core.errors import BackendError
from routellm_core.providers.errors import backend_error, is_retryable, refusal, retry_after
from routellm_core.providers.redaction import redacted, safe_cause


class Foreign(Exception):
    def __init__(self, **attributes: Any) -> None:
        super().__init__("foreign")
        vars(self).update(attributes)


class APIConnectionError(Exception):
    """Named as the OpenAI SDK's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackendError("x", model="m", status_code=400, retryable=True), True),
        (BackendError("x", model="m", status_code=503, retryable=False), False),
        (Foreign(status_code=429), True),
        (Foreign(status_code=500), True),
        (Foreign(status_code=400), False),
        (Foreign(code=503), True),
        (Foreign(code="rate_limit"), False),
        (Foreign(response=SimpleNamespace(status_code=408)), True),
        (Foreign(response={"ResponseMetadata": {"HTTPStatusCode": 503}}), True),
        (APIConnectionError(), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (KeyError("mistake"), False),
    ],
)
def test_is_retryable(error: Exception, expected: bool) -> None:
    assert is_retryable(error) is expected


class ReadTimeout(Exception):
    """Named as httpx's."""


@pytest.mark.parametrize(
    ("error", "status", "is_timeout"),
    [
        (Foreign(status_code=429, response=SimpleNamespace(headers={"x": "1"}, status_code=429)), 429, False),
        (Foreign(status_code=500), 502, False),  # made up where no provider answered
        (Foreign(status_code=403), 403, False),
        (ReadTimeout("slow"), 504, True),
        (TimeoutError(), 504, True),
        (ValueError("Missing credentials"), 401, False),
        (ConnectionResetError(), 502, False),
    ],
)
def test_every_foreign_exception_gets_a_status(error: Exception, status: int, is_timeout: bool) -> None:
    found = backend_error(error, model="m")
    assert (found.status_code, found.is_timeout) == (status, is_timeout)
    assert f"status {status}" in str(found)
    assert backend_error(found, model="other") is found


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"code": "context_length_exceeded", "message": "no"}, True),
        (400, {"message": "This model's maximum context length is 8192 tokens. However, you sent 20013"}, True),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, True),
        (400, {"message": "The model does not support image input"}, True),
        (400, {"message": "`tools` is not supported with this model"}, True),
        (400, {"message": "image_url is not supported by this model"}, True),
        (422, {"message": "Unrecognized request argument supplied: logit_bias"}, True),
        (400, {"code": "unsupported_parameter", "message": "Unsupported parameter: 'max_tokens'"}, True),
        (400, {"message": "Corrupted thought signature."}, True),
        (400, {"code": "previous_response_not_found", "message": "no such response"}, True),
        (400, {"message": "Invalid value for 'temperature'"}, False),
        (400, {"message": "messages[1].role must be one of user, assistant"}, False),
        (401, {"message": "this key does not support images"}, False),
        (500, {"message": "maximum context length"}, False),
    ],
)
def test_what_another_model_may_take_is_told_apart(status: int, body: dict[str, str], expected: bool) -> None:
    found = refusal(status, {}, json.dumps({"error": body}).encode(), "m")
    assert found.fits_elsewhere is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_wait_for() -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: Bearer sk-secret123456", "Incorrect API key provided: Bearer ***"),
        ("Incorrect API key provided: sk-proj-abcdef1234.", "Incorrect API key provided: sk-***"),
        ("key AIzaSyB1234567890abc is not valid", "key AIza*** is not valid"),
        ("api_key=abcd1234 is wrong", "api_key=*** is wrong"),
        ('{"api-key": "abcd1234"}', '{"api-key": "***"}'),
        ("401 for https://api.example.com/v1/x?key=abc&sig=def", "401 for https://api.example.com/v1/x?***"),
        ("GET https://user:pw@api.example.com/v1", "GET https://api.example.com/v1"),
        ("POST http://vllm.prod.svc.cluster.local:8000/v1/x failed", "POST http://*** failed"),
        ("POST http://10.2.3.4:8000/v1, then gave up", "POST http://***, then gave up"),
        ("Cannot connect to host llm-host:8000 ssl:default", "Cannot connect to host *** ssl:default"),
        ("Connect call failed ('127.0.0.1', 8000)", "Connect call failed ('***', 8000)"),
        ("no answer of 192.168.1.7:8080", "no answer of ***"),
        ("This model's maximum context length is 8192 tokens", "This model's maximum context length is 8192 tokens"),
        ("Bearer token is missing", "Bearer token is missing"),
        ("see https://platform.openai.com/docs/x for more", "see https://platform.openai.com/docs/x for more"),
        ("version 10.2.1 of the API is needed", "version 10.2.1 of the API is needed"),
    ],
)
def test_keys_query_strings_and_internal_addresses_are_not_repeated(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_the_keys_of_the_environment_and_of_the_call_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "without-any-prefix-1234")
    monkeypatch.setenv("SHORT_TOKEN", "word")
    assert redacted("bad: without-any-prefix-1234, a word, mine", ["mine"]) == "bad: ***, a word, ***"


def test_an_exception_that_holds_a_key_is_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    harmless, leaking = ValueError("no such file"), ValueError("Bearer sk-secret123456")
    assert safe_cause(harmless) is harmless
    assert safe_cause(leaking) is None
