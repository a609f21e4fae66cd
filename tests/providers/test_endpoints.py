"""Which models are relayed to, and how they are reached."""

from __future__ import annotations

from typing import Any

import pytest

from routellm_core.backends.base import ModelSettings
from routellm_core.providers.endpoints import neighbour, openai_endpoint

BASE = "http://models.example/v1"


def endpoint(model: str, environment: dict[str, str] | None = None, **settings: Any) -> Any:
    return openai_endpoint(
        ModelSettings(model=model, **settings), {"OPENAI_API_KEY": "k"} if environment is None else environment
    )


@pytest.mark.parametrize(
    ("model", "settings", "url", "name"),
    [
        ("gpt-4o", {}, "https://api.openai.com/v1/chat/completions", "gpt-4o"),
        ("o3-mini", {}, "https://api.openai.com/v1/chat/completions", "o3-mini"),
        ("ft:gpt-4o:org::1", {}, "https://api.openai.com/v1/chat/completions", "ft:gpt-4o:org::1"),
        ("openai/gpt-4o", {}, "https://api.openai.com/v1/chat/completions", "gpt-4o"),
        ("openai/owner/model", {"api_base": f"{BASE}/"}, f"{BASE}/chat/completions", "owner/model"),
        ("anything", {"api_base": BASE}, f"{BASE}/chat/completions", "anything"),
        ("hosted_vllm/llama", {"api_base": BASE}, f"{BASE}/chat/completions", "llama"),
        ("ollama/llama3", {}, "http://localhost:11434/v1/chat/completions", "llama3"),
        ("ollama_chat/llama3", {"api_base": "http://gpu:11434/"}, "http://gpu:11434/v1/chat/completions", "llama3"),
        ("ollama_chat/llama3", {"api_base": "http://gpu:11434/v1"}, "http://gpu:11434/v1/chat/completions", "llama3"),
        ("owner/model", {"api_base": BASE, "relay": True}, f"{BASE}/chat/completions", "owner/model"),
        (
            "azure/my deployment",
            {"api_base": "https://r.example/", "extra": {"api_version": "2024-10-21"}},
            "https://r.example/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21",
            "my deployment",
        ),
        ("azure/d", {"api_base": "https://r.example"}, "https://r.example/openai/v1/chat/completions", "d"),
    ],
)
def test_models_of_openai_s_protocol(model: str, settings: dict[str, Any], url: str, name: str) -> None:
    found = endpoint(model, **settings)
    assert (found.url("chat/completions"), found.model) == (url, name)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("anthropic/claude", {}),
        ("anthropic/claude", {"api_base": BASE}),
        ("claude-sonnet", {}),
        ("hosted_vllm/llama", {}),
        ("azure/d", {}),
        ("gpt-4o", {"relay": False}),
        ("owner/model", {"relay": True}),  # nowhere to go
        ("openai/m", {"extra": {"custom_llm_provider": "anthropic"}}),
        ("openai/m", {"extra": {"mock_response": "hi"}}),
        ("openai/m", {"extra": {"drop_params": True}}),
    ],
)
def test_models_that_need_litellm(model: str, settings: dict[str, Any]) -> None:
    assert endpoint(model, **settings) is None


def test_keys_and_bases_come_from_the_settings_then_from_the_provider_s_variables() -> None:
    variables = {
        "OPENAI_API_KEY": "env-key",
        "OPENAI_BASE_URL": "http://env.example/v1",
        "HOSTED_VLLM_API_BASE": "http://vllm.example/v1",
        "HOSTED_VLLM_API_KEY": "vllm-key",
        "OLLAMA_API_BASE": "http://ollama.example",
        "AZURE_API_BASE": "https://azure.example",
        "AZURE_API_KEY": "azure-key",
        "AZURE_API_VERSION": "v9",
    }
    assert endpoint("gpt-4o", variables).base_url == "http://env.example/v1"
    assert endpoint("gpt-4o", variables).headers["Authorization"] == "Bearer env-key"
    assert endpoint("gpt-4o", variables, api_key="own", api_base=BASE).headers["Authorization"] == "Bearer own"
    assert endpoint("gpt-4o", variables, api_base=BASE).base_url == BASE
    assert endpoint("hosted_vllm/m", variables).headers["Authorization"] == "Bearer vllm-key"
    assert "Authorization" not in endpoint("ollama/m", variables).headers
    azure = endpoint("azure/d", variables)
    assert azure.url("embeddings") == "https://azure.example/openai/deployments/d/embeddings?api-version=v9"
    assert (azure.headers["api-key"], azure.headers.get("Authorization")) == ("azure-key", None)
    # a key for OpenAI is not given to a server that somebody else runs under another name
    assert "Authorization" not in endpoint("owner/m", variables, api_base=BASE, relay=True).headers


def test_extra_options_go_where_they_belong() -> None:
    found = endpoint(
        "openai/m",
        api_base=BASE,
        extra={
            "temperature": 0.2,
            "organization": "org",
            "extra_headers": {"X-Team": "a"},
            "extra_query": {"v": "1 2"},
            "extra_body": {"top_k": 5},
        },
    )
    assert found.defaults == {"temperature": 0.2, "top_k": 5}
    assert (found.headers["X-Team"], found.headers["OpenAI-Organization"]) == ("a", "org")
    assert found.url("completions") == f"{BASE}/completions?v=1+2"


def test_the_key_is_neither_shown_nor_left_in_texts() -> None:
    found = endpoint(
        "openai/m", api_key="my-secret-key", extra={"extra_headers": {"X-Api-Key": "other", "X-A": "fast"}}
    )
    assert "my-secret-key" not in repr(found)
    assert found.secrets == ["my-secret-key", "other"]
    assert "signature" in endpoint("openai/m", extra={"extra_query": {"sig": "signature", "v": "1"}}).secrets


@pytest.mark.parametrize(
    ("model", "settings", "name", "found"),
    [
        ("gpt-4o", {}, "text-embedding-3-small", "https://api.openai.com/v1/embeddings"),
        ("openai/m", {"api_base": BASE}, "openai/e", f"{BASE}/embeddings"),
        ("openai/m", {"api_base": BASE}, "http://evil.example/x", f"{BASE}/embeddings"),
        ("owner/m", {"api_base": BASE, "relay": True}, "owner/e", f"{BASE}/embeddings"),
        ("owner/m", {"api_base": BASE, "relay": True}, "huggingface/http://evil.example", f"{BASE}/embeddings"),
        ("ollama/m", {}, "nomic", "http://localhost:11434/v1/embeddings"),
        (
            "azure/m",
            {"api_base": "https://r.example", "extra": {"api_version": "v1", "temperature": 0}},
            "../../e",
            "https://r.example/openai/deployments/..%2F..%2Fe/embeddings?api-version=v1",
        ),
    ],
)
def test_a_neighbour_is_at_the_same_server_whatever_its_name(
    model: str, settings: dict[str, Any], name: str, found: str
) -> None:
    settings = {**settings, "api_key": "k", "input_cost_per_token": 1.0, "output_cost_per_token": 1.0}
    other = neighbour(ModelSettings(model=model, **settings), name)
    there = openai_endpoint(other, {})
    assert there is not None
    assert there.url("embeddings") == found
    assert there.model == name.removeprefix("openai/")
    assert there.defaults == {}
    assert other.input_cost_per_token is None


def test_openai_itself_without_a_key_is_left_to_litellm_which_says_what_is_missing() -> None:
    assert endpoint("openai/gpt-4o", {}) is None
    assert endpoint("openai/gpt-4o", {}, api_base=BASE) is not None  # a server of one's own may need none
    assert endpoint("openai/gpt-4o", {}, extra={"extra_headers": {"Authorization": "Bearer t"}}) is not None
