"""Writing a model down without its keys, and building it again from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.llms.llm import LLM
from llama_index.core.llms.loading import RECOGNIZED_LLMS

from routellm_core.errors import ConfigError
from routellm_core.types import Tier

__all__ = ["dump_model", "load_model", "without_secrets"]

_SECRETS = frozenset(
    {"api_key", "authorization", "azure_ad_token", "aws_secret_access_key", "aws_session_token", "auth_token"}
)


def dump_model(model: LLM) -> dict[str, Any]:
    """Return a model as plain values, without keys: those come from the environment where it is built again."""
    record = model.to_dict()
    own = {name: value for name, value in record.items() if name in type(model).model_fields or name == "class_name"}
    return without_secrets(own)  # type: ignore[no-any-return]


def load_model(tier: Tier, record: Mapping[str, Any]) -> LLM:
    """Build a model from what :func:`dump_model` wrote.

    Only classes that are known by name are built: those of this package, ``LiteLLM``, and those that LlamaIndex knows.

    Raises:
        ConfigError: the class is another one, or refuses the values.
    """
    name = str(record["class_name"])
    found = _classes(name)
    if found is None:
        raise ConfigError(
            f"{tier}: the LLM class {name!r} cannot be built from data; give the model itself, as in "
            f"RouteLLM.from_dict(data, {tier}=MyLLM(...))"
        )
    try:
        return found.from_dict(dict(record))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{tier}: the LLM class {name!r} refused its saved values: {error}") from error


def _classes(name: str) -> type[LLM] | None:
    from llama_index.llms.routellm.base import RouteLLM

    if name == RouteLLM.class_name():
        return RouteLLM
    if name in ("resilient_litellm_llm", "litellm_llm"):  # importing litellm takes seconds
        from llama_index.llms.litellm import LiteLLM
        from llama_index.llms.routellm.litellm_model import ResilientLiteLLM

        return ResilientLiteLLM if name == ResilientLiteLLM.class_name() else LiteLLM
    return RECOGNIZED_LLMS.get(name)


def without_secrets(value: Any) -> Any:
    """Return plain values without the entries that hold keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if str(key).lower() not in _SECRETS}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
