"""How one model is reached."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ModelSettings(BaseModel):
    """How one model is reached. Each model has its own, so that Azure, Ollama, vLLM and a hosted model can be mixed.

    Attributes:
        model: the name a backend knows it under; for litellm ``provider/model``, such as ``"ollama_chat/llama3.1"``.
        api_base: base URL, where it is not the provider's own.
        api_key: key; None leaves it to the provider's environment variable (``OPENAI_API_KEY`` …).
        timeout: seconds for one whole answer; no other limit is longer than this one.
        connect_timeout: seconds until the connection stands.
        first_token_timeout: seconds until a stream says something.
        token_timeout: seconds between two pieces of a stream after that.
        extra: further parameters of each call (``api_version``, ``temperature``, ``extra_headers`` …). Those given
            with a call win over these.
        drop_params: parameters that this model does not take and that calls of it leave out; ``true`` leaves out what
            litellm says that the model does not take.
        rename_params: parameters that it takes under another name, such as ``{"max_tokens": "max_completion_tokens"}``.
        drop_message_fields: keys of messages that it refuses in a history which another model wrote, such as
            ``["reasoning_content"]``.
        context_window: tokens that a request may have, where litellm's map does not know the model.
        max_output_tokens: tokens that an answer may have, likewise.
        modalities: what it reads beside text, of image, audio, file and video, likewise.
        tools: whether it calls tools, likewise.
        json_schema: whether its answers follow a JSON schema, likewise.
        cached_input_cost_per_token: dollars for what the provider's prompt cache holds, likewise.
        input_cost_per_token: dollars, where the price map does not know the model.
        output_cost_per_token: dollars, likewise.
        relay: whether this model is called over OpenAI's protocol, without an SDK in between. None leaves it to the
            provider: so where it speaks that protocol, through litellm otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    api_base: str | None = None
    api_key: SecretStr | None = None
    timeout: float = Field(default=600.0, gt=0)
    connect_timeout: float = Field(default=10.0, gt=0)
    first_token_timeout: float = Field(default=120.0, gt=0)
    token_timeout: float = Field(default=60.0, gt=0)
    extra: dict[str, Any] = Field(default_factory=dict)
    drop_params: bool | tuple[str, ...] = ()
    rename_params: dict[str, str] = Field(default_factory=dict)
    drop_message_fields: tuple[str, ...] = ()
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    modalities: tuple[Literal["text", "image", "audio", "file", "video"], ...] | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    cached_input_cost_per_token: float | None = Field(default=None, ge=0)
    input_cost_per_token: float | None = Field(default=None, ge=0)
    output_cost_per_token: float | None = Field(default=None, ge=0)
    relay: bool | None = None

    @property
    def opening_seconds(self) -> float:
        """Return the seconds that a stream has until it says something."""
        return min(self.timeout, self.first_token_timeout)

    @property
    def silent_seconds(self) -> float:
        """Return the seconds that a stream may be silent after that."""
        return min(self.timeout, self.token_timeout)
