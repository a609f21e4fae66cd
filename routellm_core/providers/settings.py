"""How one model is reached."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

__all__ = ["ModelSettings"]


class ModelSettings(BaseModel):
    """How one model is reached. Each model has its own, so that Azure, Ollama, vLLM and a hosted model can be mixed.

    Attributes:
        model: the name a backend knows it under; for litellm ``provider/model``, such as ``"ollama_chat/llama3.1"``.
        api_base: base URL, where it is not the provider's own.
        api_key: key; None leaves it to the provider's environment variable (``OPENAI_API_KEY`` …).
        timeout: seconds for one call, or until the first token of a stream.
        extra: further parameters of each call (``api_version``, ``temperature``, ``extra_headers`` …). Those given
            with a call win over these.
        input_cost_per_token: dollars, where the price map does not know the model.
        output_cost_per_token: dollars, likewise.
        relay: whether the server passes requests on to this model byte for byte, without an SDK in between. None leaves
            it to the provider: relayed where it speaks OpenAI's protocol, through litellm otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    api_base: str | None = None
    api_key: SecretStr | None = None
    timeout: float = Field(default=600.0, gt=0)
    extra: dict[str, Any] = Field(default_factory=dict)
    input_cost_per_token: float | None = Field(default=None, ge=0)
    output_cost_per_token: float | None = Field(default=None, ge=0)
    relay: bool | None = None
