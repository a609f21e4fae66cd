"""What clients are told of failures behind the server, and of fields that a model does not take."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from aiohttp import web

from routellm_core.testing.local_models import LocalModelServer

UNKNOWN = {
    "repetition_penalty": 1.1,
    "min_p": 0.05,
    "chat_template_kwargs": {"enable_thinking": False},
    "stop_token_ids": [1],
}


class TestFixedWords:
    @pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
    @pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
    def test_no_host_and_no_key_of_a_query(
        self, serve: Any, caplog: pytest.LogCaptureFixture, relay: bool | None, is_streamed: bool
    ) -> None:
        secret = "query-secret-77"
        model = {
            "model": "openai/m",
            "api_base": "http://127.0.0.1:9/internal-path/v1",
            "relay": relay,
            "extra": {"extra_query": {"key": secret}},
        }
        running = serve(strong=model, weak=model)
        answer = running.chat("weak", stream=is_streamed)
        assert answer.status_code == 502
        told = answer.text + str(answer.headers)
        for hidden in (secret, "127.0.0.1:9", "internal-path", "key="):
            assert hidden not in told
        assert answer.json()["error"]["message"] == (
            "model 'openai/m' could not be reached or understood; the server's log has the cause"
        )
        request_id = answer.headers["x-request-id"]
        assert any(request_id in record.getMessage() and record.levelno >= logging.WARNING for record in caplog.records)
        assert secret not in caplog.text

    async def test_no_target_of_a_redirection(self, serve: Any) -> None:
        async def redirected(_request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect("http://intern.corp.example:8080/v1/chat/completions?key=abc123secret")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", redirected)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            base = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            models = {tier: {"model": f"openai/{tier}", "api_base": base} for tier in ("strong", "weak")}
            running = serve(**models)
            async with httpx.AsyncClient(timeout=30) as client:
                body = {"model": "weak", "messages": [{"role": "user", "content": "Hi"}]}
                answer = await client.post(f"{running.base_url}/chat/completions", json=body)
        finally:
            await runner.cleanup()
        assert answer.status_code == 502
        assert "intern" not in answer.text + str(answer.headers)
        assert "secret" not in answer.text

    def test_what_is_about_the_request_is_told_in_the_model_s_words(self, serve: Any) -> None:
        running = serve(weak="openai/fail-400")
        assert "fail-400 was asked to fail" in running.chat("weak").json()["error"]["message"]
        running = serve(weak="openai/fail-403")
        assert "asked to fail" not in running.chat("weak").json()["error"]["message"]


class TestUnknownFields:
    @pytest.mark.parametrize("relay", [None, False], ids=["relayed", "litellm"])
    @pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
    def test_they_reach_a_server_of_openai_s_protocol_either_way(
        self, serve: Any, upstream: LocalModelServer, relay: bool | None, path: str
    ) -> None:
        running = serve(weak={"model": "openai/small", "relay": relay})
        body = {"model": "weak", "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", **UNKNOWN}
        del body["prompt" if path == "/chat/completions" else "messages"]
        answer = running.post(path, body)
        assert answer.status_code == 200, answer.text
        assert "x-routellm-dropped" not in answer.headers
        assert {name: upstream.requests[-1][name] for name in UNKNOWN} == UNKNOWN

    @pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
    def test_they_are_dropped_and_named_where_the_provider_would_refuse_them(
        self, serve: Any, upstream: LocalModelServer, is_streamed: bool
    ) -> None:
        running = serve(weak={"model": "mistral/small", "relay": False})
        messages = [{"role": "user", "content": "Hi"}]
        answer = running.post(
            "/chat/completions", {"model": "weak", "messages": messages, **UNKNOWN, "stream": is_streamed}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-routellm-dropped"].split(", ") == list(UNKNOWN)
        assert not UNKNOWN.keys() & upstream.requests[-1].keys()
        assert "x-routellm-dropped" not in running.chat("weak").headers

    def test_those_of_the_configuration_are_kept_beside_them(self, serve: Any, upstream: LocalModelServer) -> None:
        extra = {"extra_body": {"guided": "yes"}}
        running = serve(weak={"model": "openai/small", "relay": False, "extra": extra})
        assert running.chat("weak", min_p=0.1).status_code == 200
        assert (upstream.requests[-1]["guided"], upstream.requests[-1]["min_p"]) == ("yes", 0.1)


class TestPaths:
    @pytest.mark.parametrize("has_page", [False, True])
    def test_a_base_url_without_v1_is_told_of(self, serve: Any, has_page: bool) -> None:
        running = serve(server={"chat_page": has_page})
        for path in ("/chat/completions", "/completions", "/embeddings", "/responses"):
            answer = httpx.post(running.url + path, json={})
            assert answer.status_code == 404
            assert f"did you mean /v1{path}" in answer.json()["error"]["message"]
        assert httpx.get(f"{running.url}/models").status_code == 404

    def test_head_is_answered_as_get_without_a_body(self, serve: Any) -> None:
        running = serve(server={"chat_page": True})
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/models/auto", "/"):
            answer = httpx.head(running.url + path)
            assert (answer.status_code, answer.content) == (200, b"")
        assert httpx.head(f"{running.url}/nothing").status_code == 404

    def test_a_slash_at_the_end_is_no_other_path(self, serve: Any) -> None:
        running = serve()
        assert httpx.get(f"{running.base_url}/models/").json()["object"] == "list"
        assert httpx.get(f"{running.base_url}/models/auto/").json()["id"] == "auto"
