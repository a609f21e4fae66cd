"""Settings of the OpenAI-compatible server: the ``server`` section of the configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from routellm_core.backends.base import ModelSettings
from routellm_core.errors import ConfigError

__all__ = ["ClientKey", "ServerSettings"]

DEFAULT_PORT = 6060


class ClientKey(BaseModel):
    """A key that a client of the server may present. A bare string is a key without limits.

    Attributes:
        key: the bearer token.
        name: what metrics and logs call it; they never hold the key itself.
        requests_per_minute: more are answered with 429; None is without limit.
        dollars_per_day: once a day's calls have cost so much, those in progress by their estimates, further ones are
            answered with 429.
        max_concurrent: requests in progress; further ones are answered with 429. Counted per process.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: SecretStr
    name: str = ""
    requests_per_minute: int | None = Field(default=None, ge=1)
    dollars_per_day: float | None = Field(default=None, gt=0)
    max_concurrent: int | None = Field(default=None, ge=1)

    @field_validator("key")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("a key must not be empty")
        return value

    @property
    def identity(self) -> str:
        """What is kept under this key is kept under a hash of it; its name may change with its place in the list."""
        return hashlib.sha256(self.key.get_secret_value().encode("utf-8", "surrogatepass")).hexdigest()


class ServerSettings(BaseModel):
    """How the server listens and what it allows.

    Attributes:
        host: the address to listen on; the default is reached from this machine only.
        port: the port; 0 takes a free one.
        api_keys: the keys of clients; without any, and without a file, every client is let in.
        api_keys_file: a file with one key per line (empty lines and lines that start with ``#`` are passed over).
        allowed_hosts: names that a request's ``Host`` may give, such as that of a proxy before the server; ``["*"]`` is
            any. Empty lets any in, but on a loopback address without keys: there, names of this machine only, since
            a hostile page can point a name of its own to it.
        limits_storage: where requests and dollars are counted, as an address that the package ``limits`` takes:
            ``memory://`` is each process for itself, ``redis://host:6379`` all of them together and beyond a restart.
        max_body_bytes: longer requests are answered with 413.
        max_concurrent: requests in progress; further ones are answered with 429 and ``Retry-After``. Less where the
            process may not open two descriptors for each.
        max_connections: open connections; beyond them the one that has been idle for longest is closed.
        header_seconds: how long the head of a request may take to arrive.
        body_seconds: how long its body may take, and a second more for every 16 KiB that came.
        cors_origins: origins whose pages may call the server from a browser; ``["*"]`` is any.
        embedding_model: who answers ``/v1/embeddings``; None passes them to the strong model's provider, with the model
            that the request names.
        count_streamed_tokens: ask models for the usage of a stream when the client did not, and keep it from the
            client; without it the tokens and dollars of such streams are not known.
        shutdown_seconds: how long answers in progress may go on after a signal to stop.
        chat_page: serve the chat page at ``/``.
        request_log: a line for each request on standard error: ``text``, ``json`` or ``off``.
        log_prompts: with the prompt in it; off, no prompt is ever written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    api_keys: list[ClientKey] = Field(default_factory=list)
    api_keys_file: Path | None = None
    allowed_hosts: list[str] = Field(default_factory=list)
    limits_storage: str = "memory://"
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_concurrent: int = Field(default=1024, ge=1)
    max_connections: int = Field(default=4096, ge=1)
    header_seconds: float = Field(default=10.0, gt=0)
    body_seconds: float = Field(default=20.0, gt=0)
    cors_origins: list[str] = Field(default_factory=list)
    embedding_model: ModelSettings | None = None
    count_streamed_tokens: bool = True
    shutdown_seconds: float = Field(default=60.0, ge=0)
    chat_page: bool = True
    request_log: Literal["off", "text", "json"] = "text"
    log_prompts: bool = False

    @field_validator("api_keys", mode="before")
    @classmethod
    def _key_forms(cls, value: Any) -> Any:
        if isinstance(value, str):  # from the environment
            keys = [key.strip() for key in value.split(",") if key.strip()]
            if value and not keys:
                raise ValueError("holds no key; write keys with commas between them, or leave it out")
            value = keys
        return [{"key": entry} if isinstance(entry, str) else entry for entry in value] if value else []

    @field_validator("embedding_model", mode="before")
    @classmethod
    def _model_by_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    def client_keys(self) -> list[ClientKey]:
        """Return the keys of the settings and of the file, read anew; each has a name.

        Raises:
            ConfigError: the file cannot be read or holds no key.
        """
        keys = [*self.api_keys, *self._keys_of_file()]
        return [
            key if key.name else key.model_copy(update={"name": f"key-{number}"}) for number, key in enumerate(keys, 1)
        ]

    def _keys_of_file(self) -> list[ClientKey]:
        if self.api_keys_file is None:
            return []
        try:
            lines = self.api_keys_file.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"server.api_keys_file {str(self.api_keys_file)!r} cannot be read: {error}") from error
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            # An empty file must not let everyone in.
            raise ConfigError(f"server.api_keys_file {str(self.api_keys_file)!r} holds no key; write one per line")
        return [ClientKey(key=SecretStr(key)) for key in keys]
