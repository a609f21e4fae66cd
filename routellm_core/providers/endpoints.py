"""Which models speak OpenAI's HTTP protocol themselves, and where: these are called without an SDK."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from routellm_core.providers.settings import ModelSettings

_OPENAI = "https://api.openai.com/v1"
_OLLAMA = "http://localhost:11434"
_OPENAI_NAME = re.compile(r"(gpt-|o\d|chatgpt-|ft:gpt-|text-embedding-)")
_PROVIDERS = frozenset({"openai", "hosted_vllm", "ollama", "ollama_chat", "azure"})
# Options of a model's `extra` that mean something to litellm alone.
_LITELLM_ONLY = frozenset({"custom_llm_provider", "drop_params", "mock_response"})
# Options of `extra` that say how the request is sent, and are no part of its body. Over OpenAI's protocol every
# parameter is allowed, and retries are counted elsewhere.
_TRANSPORT = frozenset({"api_version", "extra_body", "extra_headers", "extra_query", "organization"})
_NOT_SENT = _TRANSPORT | {"additional_drop_params", "allowed_openai_params", "max_retries", "num_retries"}
_SECRET_NAME = re.compile(r"auth|key|secret|token|sig", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where a model is reached over OpenAI's protocol.

    Attributes:
        base_url: what the path of an operation (``chat/completions``) is appended to, without a slash at its end.
        model: the model's name there.
        headers: headers of every request, the key's included.
        query: appended to every URL, such as ``?api-version=2024-10-21``; empty where there is nothing to say.
        defaults: parameters of the body for requests that do not give them.
    """

    base_url: str
    model: str
    headers: Mapping[str, str] = field(repr=False)  # it holds the key
    query: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """Return the URL of an operation, such as ``chat/completions``."""
        return f"{self.base_url}/{path}{self.query}"

    @property
    def secrets(self) -> list[str]:
        """The keys in this endpoint's headers and URL, which a server may quote in its errors."""
        sent = (value.removeprefix("Bearer ").strip() for name, value in self.headers.items() if _is_secret(name))
        return [*sent, *(value for name, value in parse_qsl(self.query.lstrip("?")) if _is_secret(name))]


def openai_endpoint(model: ModelSettings, environment: Mapping[str, str] | None = None) -> OpenAIEndpoint | None:
    """Return where ``model`` is reached over OpenAI's protocol, or None where it needs litellm.

    OpenAI's own models, Azure's, vLLM's (``hosted_vllm/…``), Ollama's and whatever has an ``openai/`` name and an
    ``api_base`` qualify, unless ``relay=False`` or an option that only litellm understands says otherwise.
    ``relay=True`` takes any name as it is, for servers that name their models ``owner/model``.

    Args:
        model: the model's settings.
        environment: stands in for the process's environment, where bases and keys are looked up that the settings
            leave out.
    """
    variables = os.environ if environment is None else environment
    if model.relay is False or _LITELLM_ONLY & model.extra.keys() or model.drop_params is True:
        return None
    if any(not name.isidentifier() for name in model.extra.get("additional_drop_params") or ()):
        return None  # litellm's paths, such as tools[*].function.strict
    provider, slash, name = model.model.partition("/")
    if not slash:
        provider, name = ("openai" if _is_openai_name(model) else ""), model.model
    if provider == "openai":
        base = model.api_base or variables.get("OPENAI_BASE_URL") or variables.get("OPENAI_API_BASE")
        return _endpoint(model, base or _OPENAI, name, variables.get("OPENAI_API_KEY"))
    if provider == "hosted_vllm":
        base = model.api_base or variables.get("HOSTED_VLLM_API_BASE")
        return _endpoint(model, base, name, variables.get("HOSTED_VLLM_API_KEY")) if base else None
    if provider in ("ollama", "ollama_chat"):
        root = (model.api_base or variables.get("OLLAMA_API_BASE") or _OLLAMA).rstrip("/").removesuffix("/v1")
        return _endpoint(model, f"{root}/v1", name, variables.get("OLLAMA_API_KEY"))
    if provider == "azure":
        base = model.api_base or variables.get("AZURE_API_BASE")
        return _azure(model, base.rstrip("/"), name, variables) if base else None
    if model.relay and model.api_base:
        return _endpoint(model, model.api_base, model.model, None)
    return None


def secrets_of(model: ModelSettings) -> list[str]:
    """Return the keys in a model's settings."""
    headers = model.extra.get("extra_headers") or {}
    key = [model.api_key.get_secret_value()] if model.api_key else []
    return [*key, *(str(value).removeprefix("Bearer ") for name, value in headers.items() if _is_secret(name))]


def neighbour(model: ModelSettings, name: str) -> ModelSettings:
    """Return the settings of another model at the server of ``model``, which must have an OpenAI endpoint.

    Args:
        model: a model there.
        name: the other's; whatever it says, it is asked for at the same server.
    """
    provider, slash, _ = model.model.partition("/")
    if not slash:
        name = f"openai/{name}"
    elif provider in _PROVIDERS:
        name = f"{provider}/{name.removeprefix(f'{provider}/')}"
    transport = {key: value for key, value in model.extra.items() if key in _TRANSPORT and key != "extra_body"}
    prices = {"input_cost_per_token": None, "output_cost_per_token": None}
    fit: dict[str, Any] = {"drop_params": (), "rename_params": {}, "drop_message_fields": ()}
    return model.model_copy(update={"model": name, "extra": transport, **prices, **fit})


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _is_openai_name(model: ModelSettings) -> bool:
    # A bare name is some provider's that litellm knows, unless a server of one's own is named: that may serve any.
    return bool(model.relay or model.api_base or _OPENAI_NAME.match(model.model))


def _endpoint(model: ModelSettings, base: str, name: str, environment_key: str | None) -> OpenAIEndpoint:
    key = model.api_key.get_secret_value() if model.api_key else environment_key
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if "organization" in model.extra:
        headers["OpenAI-Organization"] = str(model.extra["organization"])
    return _built(model, base.rstrip("/"), name, headers, {})


def _azure(model: ModelSettings, base: str, deployment: str, variables: Mapping[str, str]) -> OpenAIEndpoint:
    key = model.api_key.get_secret_value() if model.api_key else variables.get("AZURE_API_KEY")
    headers = {"api-key": key} if key else {}
    version = model.extra.get("api_version") or variables.get("AZURE_API_VERSION")
    if version is None:  # Azure's own v1 protocol names the deployment in the body, as OpenAI does
        return _built(model, f"{base}/openai/v1", deployment, headers, {})
    path = quote(deployment, safe="")  # a client may name it, for embeddings
    return _built(model, f"{base}/openai/deployments/{path}", deployment, headers, {"api-version": str(version)})


def _built(
    model: ModelSettings, base: str, name: str, headers: dict[str, str], query: dict[str, str]
) -> OpenAIEndpoint:
    query = {**query, **model.extra.get("extra_query", {})}
    body = {key: value for key, value in model.extra.items() if key not in _NOT_SENT}
    return OpenAIEndpoint(
        base_url=base,
        model=name,
        headers={"Content-Type": "application/json", **headers, **model.extra.get("extra_headers", {})},
        query=f"?{urlencode(query)}" if query else "",
        defaults={**body, **model.extra.get("extra_body", {})},
    )
