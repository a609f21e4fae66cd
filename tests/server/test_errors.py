"""Whatever goes wrong comes back in OpenAI's envelope with the right status: never a bare 500."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import httpx
import openai
import pytest

from routellm_core.testing.local_models import LocalModelServer

CHAT = "/chat/completions"
HELLO = [{"role": "user", "content": "Hello!"}]
CLIENT_KEY = "client-key-77aa"


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of an envelope that has exactly OpenAI's keys."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    assert isinstance(body["error"]["type"], str)
    error: dict[str, Any] = body["error"]
    return error


@pytest.fixture(scope="module")
def server(build: Any, local_models: LocalModelServer) -> Any:
    with build(local_models, server={"max_body_bytes": 100_000}) as running:
        yield running


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": HELLO, **fields}


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ({"messages": HELLO}, "model", "must provide 'model'"),
        ({"model": "auto"}, "messages", "must provide 'messages'"),
        (body(messages=[]), "messages", "at least 1 item"),
        (body(messages="Hello"), "messages", "valid list"),
        (body(messages=None), "messages", "valid list"),
        (body(messages=["Hello"]), "messages[0]", "invalid 'messages[0]'"),
        (body(messages=[{"content": "Hello"}]), "messages[0].role", "must provide 'messages[0].role'"),
        (body(messages=[{"role": 5, "content": "Hello"}]), "messages[0].role", "valid string"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content", "valid string"),
        (body(messages=[{"role": "user", "content": [5]}]), "messages[0].content", "messages[0].content"),
        (body(model=None), "model", "valid string"),
        (body(model=5), "model", "valid string"),
        (body(model=""), "model", "at least 1 character"),
        (body(model=["auto"]), "model", "valid string"),
        (body(stream="yes"), "stream", "valid boolean"),
        (body(stream=1), "stream", "valid boolean"),
        (body(stream_options=[]), "stream_options", "stream_options"),
        (body(user=5), "user", "valid string"),
        (body(prompt_cache_key={}), "prompt_cache_key", "valid string"),
        (body(model="router-random-1.5"), "model", "number in [0, 1]"),
        (body(model="router-random-abc"), "model", "number in [0, 1]"),
        (body(model="router-random-nan"), "model", "number in [0, 1]"),
        (body(model="router-random-150%"), "model", "from 0% to 100%"),
    ],
)
def test_bad_requests(server: Any, sent: Any, param: str, said: str) -> None:
    response = server.post(CHAT, sent)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["code"] in ("missing_required_parameter", "invalid_value")
    assert said in error["message"]


@pytest.mark.parametrize("model", ["gpt-9", "router-mf-0.5", "router-random", "router-", "big", "ünïcode", "a" * 5000])
def test_an_unknown_model_is_a_404_that_names_those_there_are(server: Any, model: str) -> None:
    response = server.post(CHAT, body(model=model))
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "auto, router-random-0.116, openai/big, openai/small" in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"5",
        b"not json",
        b"\xff\xfe\x00",
        b'{"model": "auto", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "\\udc00 and \\ud83d"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "temperature": NaN}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "temperature": Infinity}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "x": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "x": '
        + b'{"a":' * 2000
        + b"1"
        + b"}" * 2001,
        b"{" * 2000,
    ],
    ids=range(16),
)
@pytest.mark.parametrize("path", [CHAT, "/completions", "/responses", "/embeddings", "/route"])
def test_bodies_that_are_no_json_object(server: Any, path: str, content: bytes) -> None:
    response = server.post(path, content=content)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_the_last_of_duplicated_keys_counts_for_the_routing_and_for_the_model(
    server: Any, local_models: LocalModelServer
) -> None:
    content = (
        b'{"model": "openai/big", "model": "openai/small", "messages": [{"role": "user", "content": "one"}], '
        b'"messages": [{"role": "user", "content": "two"}]}'
    )
    response = server.post(CHAT, content=content)
    assert response.json()["choices"][0]["message"]["content"] == "small answers: two"
    assert response.headers["x-routellm-model"] == "openai/small"
    assert local_models.requests[-1] == {"model": "small", "messages": [{"role": "user", "content": "two"}]}


def test_fields_that_nobody_knows_are_the_model_s_matter(server: Any, local_models: LocalModelServer) -> None:
    fields = {"min_p": 0.05, "guided_json": {"type": "object"}, "große Zahl": 2**70, "flag": None, "list": [1, [2.5]]}
    assert server.post(CHAT, body(**fields)).status_code == 200
    assert {name: local_models.requests[-1][name] for name in fields} == fields


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_content_type_that_a_foreign_page_may_send_unasked_is_refused(server: Any, content_type: str) -> None:
    response = server.post(CHAT, content=json.dumps(body()).encode(), headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "application/json" in error_of(response)["message"]


def test_json_content_types_with_parameters_are_fine(server: Any) -> None:
    for content_type in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"):
        sent = json.dumps(body()).encode()
        assert server.post(CHAT, content=sent, headers={"Content-Type": content_type}).status_code == 200


def test_a_body_beyond_the_limit_is_refused_with_and_without_its_length(server: Any) -> None:
    long = json.dumps(body(messages=[{"role": "user", "content": "x" * 100_000}])).encode()
    announced = server.post(CHAT, content=long)
    chunked = server.post(CHAT, content=iter([long[:50_000], long[50_000:]]))
    for response in (announced, chunked):
        error = error_of(response)
        assert (response.status_code, error["code"]) == (413, "request_too_large")
        assert "100000 bytes" in error["message"]
    fitting = json.dumps(body(messages=[{"role": "user", "content": "x" * 90_000}])).encode()
    assert server.post(CHAT, content=iter([fitting])).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
def test_a_wrong_method(server: Any, method: str, path: str) -> None:
    response = httpx.request(method, server.url + path)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "method" in error_of(response)["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nothing",
        "/v1/",
        "/v1",
        "/nothing",
        "/v1/chat",
        "/V1/models",
        "/v1/chat/completions/x",
        "/%00",
        "/v1/../etc",
    ],
)
def test_an_unknown_path(server: Any, path: str) -> None:
    for method in ("GET", "POST"):
        response = httpx.request(method, server.url + path)
        assert response.status_code == 404
        assert error_of(response)["type"] == "invalid_request_error"


def test_a_slash_at_the_end_of_a_path_leads_to_it(server: Any) -> None:
    response = httpx.post(f"{server.base_url}/chat/completions/", json=body(), follow_redirects=True)
    assert response.json()["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("path", "sent", "param"),
    [
        ("/completions", {"model": "auto", "prompt": {"text": "Hi"}}, "prompt"),
        ("/responses", {"model": "auto", "input": 5}, "input"),
        ("/embeddings", {"model": "e"}, "input"),
        ("/embeddings", {"input": "Hi"}, "model"),
        ("/route", {"model": "auto"}, "messages"),
        ("/route", {"prompt": "Hi", "messages": HELLO}, "messages"),
        ("/route", {"prompt": "Hi", "threshold": 0.5}, "threshold"),
        ("/route", {"prompt": "Hi", "model": "router-random-2"}, "model"),
    ],
)
def test_the_other_paths_name_the_fault_too(server: Any, path: str, sent: Any, param: str) -> None:
    response = server.post(path, sent)
    assert response.status_code == 400
    assert error_of(response)["param"].startswith(param)


FAILURES = [
    ("fail-400", 400, "invalid_request_error"),
    ("fail-401", 401, "invalid_request_error"),
    ("fail-403", 403, "server_error"),
    ("fail-404", 404, "invalid_request_error"),
    ("fail-429", 429, "requests"),
    ("fail-500", 500, "server_error"),
    ("fail-503", 503, "server_error"),
    ("garbage", 502, "server_error"),
    ("empty", 502, "server_error"),
    ("drop", 502, "server_error"),
    ("slow-20", 504, "server_error"),
]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("model", "status", "kind"), FAILURES, ids=[model for model, *_ in FAILURES])
@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
def test_a_failing_model_is_told_of_before_the_first_byte(
    serve: Any, model: str, status: int, kind: str, is_streamed: bool, relay: bool | None
) -> None:
    settings = {"model": f"openai/{model}", "relay": relay, "timeout": 0.3 if model.startswith("slow") else 30.0}
    running = serve(weak=settings, fallback={"enabled": False, "attempts": 1})
    response = running.chat("weak", stream=is_streamed)
    error = error_of(response)
    assert response.status_code == status
    if relay is None:
        assert error["type"] == kind
    assert f"openai/{model}" in error["message"]
    assert response.headers["x-routellm-model"] == f"openai/{model}"
    assert running.metric("routellm_backend_errors_total", model=f"openai/{model}", status=str(status)) == 1
    assert running.metric("routellm_requests_total", status=str(status)) == 1
    if model == "fail-429":
        assert response.headers["retry-after"] == "0"


def test_retries_repair_what_passes(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(weak="openai/flaky-500")
    response = running.chat("weak")
    assert response.json()["choices"][0]["message"]["content"] == "flaky-500 answers: Hello!"
    assert len(upstream.requests) == 2
    assert "x-routellm-fallback-from" not in response.headers


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("strong_relay", "weak_relay"), [(None, None), (None, False), (False, None)])
def test_the_other_model_answers_where_one_fails(
    serve: Any, strong_relay: bool | None, weak_relay: bool | None, is_streamed: bool
) -> None:
    running = serve(
        strong={"model": "openai/fail-500", "relay": strong_relay},
        weak={"model": "openai/small", "relay": weak_relay},
        fallback={"attempts": 1},
    )
    response = running.chat("strong", stream=is_streamed)
    assert response.status_code == 200
    assert response.headers["x-routellm-model"] == "openai/small"
    assert response.headers["x-routellm-tier"] == "weak"
    assert response.headers["x-routellm-fallback-from"] == "openai/fail-500"
    assert "failed with status 500" in response.headers["x-routellm-reason"]
    assert "small" in response.text
    assert running.metric("routellm_fallbacks_total", failed="openai/fail-500", answered="openai/small") == 1


def test_both_models_failing_gives_the_first_one_s_status_and_the_log_has_both_causes(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve(strong="openai/fail-500", weak="openai/fail-429", fallback={"attempts": 1})
    response = running.chat("strong")
    error = error_of(response)
    assert response.status_code == 500
    assert "openai/fail-500" in error["message"]
    assert "openai/fail-429" in caplog.text


def test_a_bad_request_is_not_tried_at_the_other_model(serve: Any, upstream: LocalModelServer) -> None:
    running = serve(strong="openai/fail-400")
    assert running.chat("strong").status_code == 400
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
@pytest.mark.parametrize("model", ["cut", "broken"])
def test_a_stream_that_breaks_ends_with_an_error_event(serve: Any, model: str, relay: bool | None) -> None:
    running = serve(weak={"model": f"openai/{model}", "relay": relay})
    text = "one two three four five six seven eight"
    response = running.chat("weak", text, stream=True)
    assert response.status_code == 200
    *chunks, last = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert all(json.loads(chunk)["object"] == "chat.completion.chunk" for chunk in chunks)
    error = json.loads(last)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert f"openai/{model}" in error["message"]
    with running.client() as client, pytest.raises(openai.APIError, match=f"openai/{model}"):
        list(client.chat.completions.create(model="weak", messages=HELLO, stream=True))  # type: ignore[call-overload]


def test_an_exception_that_nobody_foresaw_is_an_envelope_and_stays_in_the_log(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a detail for the log alone")

    monkeypatch.setattr(running.app.state.service, "decide", fails)
    monkeypatch.setattr(running.app.state.metrics, "exposition", lambda: 1 / 0)
    for response in (running.chat(), running.post("/route", {"prompt": "Hi"}), httpx.get(f"{running.url}/metrics")):
        assert response.status_code == 500
        error = error_of(response)
        assert error["type"] == "server_error"
        assert "detail" not in error["message"]
        assert "division" not in error["message"]
    assert "a detail for the log alone" in caplog.text


def test_a_router_that_fails_is_503_where_the_policy_is_to_raise(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve(on_scoring_error="raise")
    router = running.app.state.service.controller.routers["random"]
    monkeypatch.setattr(router, "score", lambda _prompts: 1 / 0)
    response = running.chat()
    assert response.status_code == 503
    assert error_of(response)["message"] == "the prompt could not be scored; the server's log has the cause"
    assert "router 'random' failed" in caplog.text


def test_a_router_that_fails_sends_to_the_strong_model_by_default_and_says_so(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve()
    router = running.app.state.service.controller.routers["random"]

    def fails(_prompts: Any) -> Any:
        raise RuntimeError("zeile\neins 100% ü \ud800 sk-abcdef123456 " + "x" * 5000)

    monkeypatch.setattr(router, "score", fails)
    response = running.chat("router-random-1")
    assert response.status_code == 200
    assert response.headers["x-routellm-tier"] == "strong"
    assert "scoring failed" in response.headers["x-routellm-reason"]
    assert "abcdef123456" not in response.headers["x-routellm-reason"]
    assert len(response.headers["x-routellm-reason"]) < 2000


SECRET = "azure-style-key-without-a-prefix"


@pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_upstream_keys_are_nowhere(
    serve: Any,
    upstream: LocalModelServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    relay: bool | None,
    is_streamed: bool,
) -> None:
    # A server that quotes the key it was given, as some do.
    from routellm_core.testing import local_handlers

    honest = local_handlers._error
    monkeypatch.setattr(
        local_handlers,
        "_error",
        lambda status, message, *rest, **more: honest(status, f"bad key {SECRET}", *rest, **more),
    )
    caplog.set_level(logging.DEBUG if relay is None else logging.INFO)  # at DEBUG, litellm's SDK logs what it sends
    models = [{"model": f"openai/fail-{status}", "api_key": SECRET, "relay": relay} for status in (401, 500)]
    running = serve(strong=models[0], weak=models[1])
    answers = [running.chat("strong", stream=is_streamed), running.chat("weak", stream=is_streamed)]
    answers.append(running.post("/embeddings", {"model": "fail-401", "input": "Hi"}))
    metrics = httpx.get(f"{running.url}/metrics").text
    assert upstream.received[0].headers["authorization"] == f"Bearer {SECRET}"
    for answer in answers:
        assert answer.status_code >= 400
        assert SECRET not in answer.text
        assert SECRET not in str(answer.headers)
    assert SECRET not in metrics
    assert SECRET not in caplog.text


def test_prompts_are_logged_only_when_that_is_asked_for(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quiet = serve(server={"api_keys": [CLIENT_KEY]})
    key = {"Authorization": f"Bearer {CLIENT_KEY}"}
    secret = {"model": "auto", "messages": [{"role": "user", "content": "my secret prompt"}]}

    def logged() -> str:
        ours = [record for record in caplog.records if record.name.split(".")[0] not in ("httpcore", "httpx", "openai")]
        return "\n".join(record.getMessage() for record in ours)

    for fields in ({}, {"stream": True}, {"messages": "my secret prompt"}, {"model": "gpt-9"}):
        quiet.post(CHAT, {**secret, **fields}, headers=key)
    assert "secret prompt" not in logged()
    assert CLIENT_KEY not in logged()
    loud = serve(server={"log_prompts": True})
    loud.post(CHAT, secret)
    for _ in range(500):  # the line is written after the answer
        if "my secret prompt" in logged():
            return
        time.sleep(0.01)
    pytest.fail("no line with the prompt")
