"""Options that a run's configuration sets: ``config={"configurable": {"routellm_threshold": 0.3}}``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import (
    AnyConfigurableField,
    ConfigurableField,
    ConfigurableFieldMultiOption,
    ConfigurableFieldSpec,
)
from pydantic import BaseModel

from routellm_core.adapters import check_option_names
from routellm_core.errors import ConfigError

__all__ = ["chosen_options", "field_specs"]

_PREFIX = "routellm_"


def chosen_options(
    config: RunnableConfig, fields: Mapping[str, AnyConfigurableField], allowed: Collection[str]
) -> tuple[dict[str, Any], RunnableConfig]:
    """Return the options that a configuration sets, and the configuration without them, as models inside get it.

    Args:
        config: of the run.
        fields: those that ``configurable_fields`` named, by option.
        allowed: the options there are.

    Raises:
        ConfigError: ``routellm_…`` with another name, or a value that is none of a field's options.
    """
    configurable = dict(config.get("configurable") or {})
    direct = [key for key in configurable if key.startswith(_PREFIX)]
    ids = {field.id: (name, field) for name, field in fields.items() if field.id in configurable}
    if not direct and not ids:
        return {}, config
    options = {key.removeprefix(_PREFIX): configurable.pop(key) for key in direct}
    check_option_names(options, allowed, subject="the run's configuration")
    for key, (name, field) in ids.items():
        value = configurable.pop(key, options.get(name))
        options[name] = value if isinstance(field, ConfigurableField) else _option(field, value)
    return options, cast("RunnableConfig", {**config, "configurable": configurable})


def _option(field: Any, value: Any) -> Any:
    keys = value if isinstance(field, ConfigurableFieldMultiOption) else [value]
    for key in keys:
        if key not in field.options:
            raise ConfigError(f"{field.id}={key!r} must be one of {', '.join(map(repr, field.options))}")
    found = [field.options[key] for key in keys]
    return found if isinstance(field, ConfigurableFieldMultiOption) else found[0]


def field_specs(model: BaseModel, fields: Mapping[str, AnyConfigurableField]) -> list[ConfigurableFieldSpec]:
    """Describe configurable fields in LangChain's way."""
    return [
        ConfigurableFieldSpec(
            id=field.id,
            name=field.name,
            description=field.description,
            annotation=getattr(field, "annotation", None) or type(model).model_fields[name].annotation,
            default=getattr(model, name) if isinstance(field, ConfigurableField) else field.default,
            is_shared=getattr(field, "is_shared", False),
        )
        for name, field in fields.items()
    ]
