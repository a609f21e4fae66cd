"""Who is let in, how often and for how much; and what a client cannot reach."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI

from routellm_core.errors import ConfigError
from routellm_core.server.access import AccessControl
from routellm_core.server.error_responses import RequestError
from routellm_core.server.settings import ClientKey, ServerSettings
from routellm_core.testing.local_models import LocalModelServer

ALICE, BOB = "alice-key", "bob-key"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def chat(running: Any, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "weak", "messages": [{"role": "user", "content": "Hello!"}], **fields}
    response: httpx.Response = running.post("/chat/completions", body, headers=headers or {})
    return response


class TestKeys:
    def test_any_of_the_keys_is_let_in_and_nothing_else(self, serve: Any, upstream: LocalModelServer) -> None:
        running = serve(server={"api_keys": [ALICE, {"key": BOB, "name": "bob"}]})
        assert [chat(running, bearer(key)).status_code for key in (ALICE, BOB)] == [200, 200]
        assert chat(running, {"Authorization": f"bearer  {BOB}"}).status_code == 200
        for headers, code in [
            ({}, "missing_api_key"),
            ({"Authorization": ""}, "missing_api_key"),
            ({"Authorization": "Bearer"}, "missing_api_key"),
            ({"Authorization": f"Basic {ALICE}"}, "missing_api_key"),
            ({"Authorization": ALICE}, "missing_api_key"),
            ({"api-key": ALICE}, "missing_api_key"),
            (bearer("wrong"), "invalid_api_key"),
            (bearer(ALICE + "x"), "invalid_api_key"),
            (bearer(f"{ALICE},{BOB}"), "invalid_api_key"),
            ({"Authorization": "Bearer Ünïcode".encode()}, "invalid_api_key"),
        ]:
            response = running.post("/chat/completions", {}, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (401, code)
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["type"] == "authentication_error"
        assert len(upstream.requests) == 3

    def test_every_path_of_the_api_asks_for_a_key_and_the_probes_do_not(self, serve: Any) -> None:
        running = serve(server={"api_keys": [ALICE]})
        paths = [
            "chat/completions",
            "completions",
            "responses",
            "embeddings",
            "route",
            "models",
            "models/auto",
            "x",
            "",
        ]
        assert {
            httpx.request(verb, f"{running.base_url}/{path}").status_code for path in paths for verb in ("GET", "POST")
        } == {401}
        assert httpx.get(f"{running.base_url}/models", headers=bearer(ALICE)).status_code == 200
        assert httpx.post(f"{running.url}/%76%31/chat/completions").status_code == 401
        assert [httpx.get(f"{running.url}/{path}").status_code for path in ("health", "ready", "metrics")] == [200] * 3

    def test_they_are_asked_for_under_another_application_too(self, serve: Any) -> None:
        from fastapi.testclient import TestClient

        running = serve(server={"api_keys": [ALICE]})
        outer = FastAPI()
        outer.mount("/llm", running.app)
        with TestClient(outer) as client:
            assert client.get("/llm/v1/models").status_code == 401
            assert client.post("/llm/v1/chat/completions", json={}).status_code == 401
            assert client.get("/llm/v1/models", headers=bearer(ALICE)).status_code == 200

    def test_the_openai_client_sees_an_authentication_error(self, serve: Any) -> None:
        running = serve(server={"api_keys": [ALICE]})
        with running.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with running.client(api_key=ALICE) as client:
            assert client.models.list().data

    def test_from_a_file_and_the_environment(self, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "keys"
        file.write_text(f"# clients\n\n{ALICE}\n  {BOB}  \n")
        running = serve(server={"api_keys_file": str(file), "api_keys": "carol-key, dave-key"})
        keys = [ALICE, BOB, "carol-key", "dave-key", "# clients"]
        assert [chat(running, bearer(key)).status_code for key in keys] == [200, 200, 200, 200, 401]

    def test_the_environment_s_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from routellm_core.config import load_config

        monkeypatch.setenv("ROUTELLM_SERVER_API_KEYS", f"{ALICE}, {BOB}")
        assert [key.key.get_secret_value() for key in load_config().server.client_keys()] == [ALICE, BOB]
        monkeypatch.setenv("ROUTELLM_SERVER_API_KEYS", " , ")
        with pytest.raises(ConfigError, match="holds no key"):
            load_config()

    def test_a_file_without_keys_lets_nobody_in_silently(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("# none yet\n")
        for name, said in [("empty", "holds no key"), ("missing", "cannot be read")]:
            with pytest.raises(ConfigError, match=said):
                ServerSettings(api_keys_file=tmp_path / name).client_keys()

    def test_keys_are_compared_in_constant_time_all_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[bytes, bytes]] = []
        constant = hmac.compare_digest

        def counting(first: bytes, second: bytes) -> bool:
            compared.append((first, second))
            return constant(first, second)

        monkeypatch.setattr(hmac, "compare_digest", counting)
        access = AccessControl([ClientKey(key=key, name=key) for key in (ALICE, BOB, "carol")])  # type: ignore[arg-type]
        assert access.key_of(ALICE).name == ALICE  # type: ignore[union-attr]
        with pytest.raises(RequestError):
            access.key_of("a")
        assert len(compared) == 6
        assert {len(digest) for pair in compared for digest in pair} == {32}


class TestLimits:
    def test_requests_per_minute(self, serve: Any) -> None:
        keys = [{"key": ALICE, "name": "alice", "requests_per_minute": 2}, BOB]
        running = serve(server={"api_keys": keys})
        answers = [chat(running, bearer(ALICE)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        error = answers[2].json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert "2 requests a minute" in error["message"]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 61
        assert chat(running, bearer(BOB)).status_code == 200

    @pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
    def test_dollars_per_day(self, serve: Any, is_streamed: bool) -> None:
        weak = {"model": "openai/small", "input_cost_per_token": 0.01, "output_cost_per_token": 0.1}
        strong = {"model": "openai/big", "input_cost_per_token": 1.0, "output_cost_per_token": 1.0}
        keys = [{"key": ALICE, "name": "alice", "dollars_per_day": 0.5}, BOB]
        running = serve(strong=strong, weak=weak, server={"api_keys": keys})
        # "Hello!" is 1 + 3 tokens in, "small answers: Hello!" 5 out: 0.04 + 0.5 dollars
        assert chat(running, bearer(ALICE), stream=is_streamed).status_code == 200
        refused = chat(running, bearer(ALICE), stream=is_streamed)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert "$0.5 a day" in refused.json()["error"]["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 86400
        assert chat(running, bearer(BOB)).status_code == 200
        assert running.metric("routellm_key_dollars_total", key="alice") == pytest.approx(0.54)
        assert running.metric("routellm_dollars_total", model="openai/small") == pytest.approx(1.08)
        # strong would have cost 9 dollars each
        assert running.metric("routellm_saved_dollars_total") == pytest.approx(18 - 1.08)
        assert running.metric("routellm_tokens_total", model="openai/small", kind="input") == 8
        assert running.metric("routellm_tokens_total", model="openai/small", kind="output") == 10

    def test_embeddings_count_too(self, serve: Any) -> None:
        embedder = {"model": "openai/e", "input_cost_per_token": 1.0, "output_cost_per_token": 0.0}

        running = serve(
            strong={"model": "openai/big", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
            weak={"model": "openai/small", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
            server={"api_keys": [{"key": ALICE, "dollars_per_day": 2}], "embedding_model": embedder},
        )
        for status in (200, 429):
            answer = running.post("/embeddings", {"model": "e", "input": ["a", "b"]}, headers=bearer(ALICE))
            assert answer.status_code == status

    def test_a_budget_without_prices_is_warned_of(self, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
        serve(strong="openai/nameless", server={"api_keys": [{"key": ALICE, "dollars_per_day": 1}]})
        assert "dollars_per_day does not count openai/nameless, openai/small" in caplog.text

    async def test_new_settings_do_not_give_a_new_budget(self) -> None:
        key = ClientKey(key=ALICE, name="alice", requests_per_minute=2, dollars_per_day=1)  # type: ignore[arg-type]
        before = AccessControl([key])
        await before.enter(key)
        await before.settle(await before.reserve(key, lambda: 0.1), 2.5)
        renamed = key.model_copy(update={"name": "somebody", "dollars_per_day": 2})
        after = AccessControl([renamed], counted=before)
        with pytest.raises(RequestError, match=r"\$2 a day"):
            await after.enter(renamed)
        with pytest.raises(RequestError, match="2 requests a minute"):
            await after.enter(renamed)


class TestCors:
    PREFLIGHT = {  # noqa: RUF012
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }

    def test_off_by_default(self, serve: Any) -> None:
        running = serve()
        answer = chat(running, {"Origin": "https://app.example"})
        assert answer.status_code == 200
        preflight = httpx.options(f"{running.base_url}/chat/completions", headers=self.PREFLIGHT)
        assert preflight.status_code == 405
        for response in (answer, preflight):
            assert not [name for name in response.headers if name.startswith("access-control")]

    def test_on_for_a_listed_origin_preflight_without_a_key(self, serve: Any) -> None:
        running = serve(server={"cors_origins": ["https://app.example"], "api_keys": [ALICE]})
        preflight = httpx.options(f"{running.base_url}/chat/completions", headers=self.PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        origin = {"Origin": "https://app.example"}
        for answer in (chat(running, {**origin, **bearer(ALICE)}), chat(running, origin)):
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert "x-routellm-fallback-from" in answer.headers["access-control-expose-headers"]
        other = {"Origin": "https://evil.example"}
        assert "access-control-allow-origin" not in chat(running, {**other, **bearer(ALICE)}).headers
        refused = httpx.options(f"{running.base_url}/chat/completions", headers={**self.PREFLIGHT, **other})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers


INJECTED: dict[str, Any] = {
    "api_base": "http://127.0.0.1:9/v1",
    "base_url": "http://127.0.0.1:9/v1",
    "api_key": "stolen",
    "api_version": "x",
    "custom_llm_provider": "anthropic",
    "extra_headers": {"X-Injected": "yes", "Authorization": "Bearer stolen"},
    "extra_body": {"injected": True},
    "extra_query": {"injected": "yes"},
    "headers": {"X-Injected": "yes"},
    "default_headers": {"X-Injected": "yes"},
    "mock_response": "made up",
    "model_list": [{"model_name": "x"}],
    "fallbacks": ["gpt-4"],
    "num_retries": 9,
    "max_retries": 9,
    "timeout": 0.001,
    "client": "x",
    "drop_params": True,
    "allowed_openai_params": ["x"],
    "organization": "stolen",
    "litellm_params": {},
    "aws_access_key_id": "x",
    "vertex_credentials": "x",
    "caching": True,
    "cache": {"no-cache": True},
    "success_callback": ["x"],
}


@pytest.fixture(scope="module")
def behind_litellm(build: Any, local_models: LocalModelServer) -> Any:
    strong, weak, embedder = ({"model": f"openai/{name}", "relay": False} for name in ("big", "small", "e"))
    with build(local_models, strong=strong, weak=weak, server={"embedding_model": embedder}) as running:
        yield running


class TestInjection:
    @pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/embeddings"])
    @pytest.mark.parametrize("field", INJECTED)
    def test_a_client_cannot_reach_litellm_s_arguments(
        self, behind_litellm: Any, local_models: LocalModelServer, path: str, field: str
    ) -> None:
        before = len(local_models.received)
        said = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi"}
        wanted = {"/chat/completions": "messages", "/completions": "prompt"}.get(path, "input")
        body = {"model": "weak", wanted: said[wanted], field: INJECTED[field]}
        response = behind_litellm.post(path, body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == field
        assert response.json()["error"]["code"] == "unknown_parameter"
        assert len(local_models.received) == before

    @pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/embeddings"])
    def test_on_a_relayed_model_they_are_fields_of_the_body_and_nothing_else(
        self, serve: Any, upstream: LocalModelServer, path: str
    ) -> None:
        running = serve()
        said = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi"}
        headers = {"Authorization": "Bearer of-the-client", "X-Injected": "yes", "OpenAI-Organization": "x"}
        response = running.post(path, {"model": "weak", **said, **INJECTED}, headers=headers)
        assert response.status_code == 200
        received = upstream.received[-1]
        assert received.path == f"/v1{path}"
        assert received.headers["authorization"] == "Bearer upstream-secret-8f3a"
        assert "x-injected" not in received.headers
        assert "openai-organization" not in received.headers
        assert "stolen" not in str(received.headers)
        assert {name: received.body[name] for name in INJECTED} == INJECTED
        assert received.body["model"] in ("small", "weak")  # embeddings keep the name that the client gave

    def test_an_embedding_model_s_name_never_chooses_the_host(self, serve: Any, upstream: LocalModelServer) -> None:
        running = serve()
        for name in ("huggingface/http://127.0.0.1:9/x", "anthropic/x", "azure/../../x", "openai/e", "http://x"):
            assert running.post("/embeddings", {"model": name, "input": "Hi"}).status_code == 200
            assert upstream.received[-1].path == "/v1/embeddings"
            assert upstream.received[-1].body["model"] == name.removeprefix("openai/")

    def test_behind_litellm_there_are_no_embeddings_unless_configured(self, serve: Any) -> None:
        running = serve(strong={"model": "openai/big", "relay": False})
        response = running.post("/embeddings", {"model": "huggingface/http://127.0.0.1:9/x", "input": "Hi"})
        assert response.status_code == 404
        assert "server.embedding_model" in response.json()["error"]["message"]


def test_it_listens_on_this_machine_only_by_default() -> None:
    assert ServerSettings().host == "127.0.0.1"
    assert ServerSettings().port == 6060
    assert ServerSettings().cors_origins == []
    assert not ServerSettings().log_prompts
