"""Configuration: RouteLLM's YAML as it is, or the fuller form; the environment fills in what the file leaves out.

RouteLLM's form maps router names to their options::

    mf:
      checkpoint_path: routellm/mf_gpt4_augmented

The fuller form puts them under ``routers`` beside the other settings (see ``config.example.yaml``). In both,
``${NAME}`` and ``${NAME:-default}`` inside a string are replaced from the environment. Precedence: what code passes,
then the file, then the environment, then the defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from routellm_core._options import validated
from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.controller import Controller
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.routers.registry import available_routers
from routellm_core.server.settings import ServerSettings
from routellm_core.types import Tier

__all__ = ["ENVIRONMENT", "FallbackSettings", "ModelsSettings", "RouteLLMConfig", "build_controller", "load_config"]

_DEFAULT_MODELS = {"strong": "openai/gpt-5.4", "weak": "openai/gpt-5.4-nano"}
DEFAULT_THRESHOLD = 0.116

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "ROUTELLM_STRONG_MODEL": ("models", "strong", "model"),
    "ROUTELLM_STRONG_API_BASE": ("models", "strong", "api_base"),
    "ROUTELLM_STRONG_API_KEY": ("models", "strong", "api_key"),
    "ROUTELLM_WEAK_MODEL": ("models", "weak", "model"),
    "ROUTELLM_WEAK_API_BASE": ("models", "weak", "api_base"),
    "ROUTELLM_WEAK_API_KEY": ("models", "weak", "api_key"),
    "ROUTELLM_ROUTER": ("router",),
    "ROUTELLM_THRESHOLD": ("threshold",),
    "ROUTELLM_CALIBRATION": ("calibration",),
    "ROUTELLM_EMBEDDER": ("embedder",),
    "ROUTELLM_ON_SCORING_ERROR": ("on_scoring_error",),
    "ROUTELLM_SERVER_HOST": ("server", "host"),
    "ROUTELLM_SERVER_PORT": ("server", "port"),
    "ROUTELLM_SERVER_API_KEYS": ("server", "api_keys"),
    "ROUTELLM_SERVER_API_KEYS_FILE": ("server", "api_keys_file"),
}
"""Environment variables and the settings that they fill in. ``ROUTELLM_CONFIG`` names the file itself."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelsSettings(_Section):
    """The two models. A bare string is the model's name."""

    strong: ModelSettings = ModelSettings(model=_DEFAULT_MODELS["strong"])
    weak: ModelSettings = ModelSettings(model=_DEFAULT_MODELS["weak"])

    @field_validator("strong", "weak", mode="before")
    @classmethod
    def _complete(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return {"model": value}
        # A key or a time-out alone is for the default model; another server would not know its name.
        if isinstance(value, dict) and not {"model", "api_base"} & value.keys():
            return {"model": _DEFAULT_MODELS[str(info.field_name)], **value}
        return value


class FallbackSettings(_Section):
    """Retries on one model and fallback to the other; see :class:`ResiliencePolicy`."""

    enabled: bool = True
    attempts: int = Field(default=2, ge=1)
    wait_initial: float = Field(default=0.5, ge=0)
    wait_max: float = Field(default=8.0, ge=0)
    statuses: tuple[int, ...] = tuple(ResiliencePolicy.statuses)
    empty_answers: bool = True
    filtered_answers: bool = False
    cooldown_after: int = Field(default=3, ge=0)
    cooldown_seconds: float = Field(default=30.0, ge=0)

    def policy(self) -> ResiliencePolicy:
        """Return the policy that these settings describe."""
        return ResiliencePolicy(fallback=self.enabled, **self.model_dump(exclude={"enabled"}))


class RouteLLMConfig(_Section):
    """Everything that can be configured.

    Attributes:
        models: the strong and the weak model.
        routers: options per router name.
        router: the default router.
        threshold: the default threshold in [0, 1], or a share of strong calls such as ``"50%"``; None, which is the
            default beside a calibration, takes the calibration's threshold.
        calibration: the file, or files, that ``routellm calibrate --save`` wrote for the routers.
        embedder: the embedder of every router that embeds and has none of its own; None takes the checkpoint's.
        on_scoring_error: where to go when scoring fails.
        no_prompt_tier: where to go without user text.
        sticky: ``"conversation"`` keeps a conversation on the strong model once it went there.
        fallback: retries and fallback between the models.
        server: the OpenAI-compatible server.
    """

    models: ModelsSettings = ModelsSettings()
    routers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    router: str = "mf"
    threshold: float | str | None = DEFAULT_THRESHOLD
    calibration: str | list[str] | None = None
    embedder: str | dict[str, Any] | None = None
    on_scoring_error: Literal["strong", "weak", "raise"] = "strong"
    no_prompt_tier: Tier = "strong"
    sticky: Literal["conversation"] | None = None
    fallback: FallbackSettings = FallbackSettings()
    server: ServerSettings = ServerSettings()

    @model_validator(mode="before")
    @classmethod
    def _calibrated_threshold(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("calibration") and "threshold" not in data:
            return {**data, "threshold": None}
        return data

    @field_validator("threshold", mode="before")
    @classmethod
    def _threshold_in_range(cls, value: Any) -> float | str | None:
        if value is None:
            return None
        parsed = parse_threshold(value)
        return str(parsed) if isinstance(parsed, StrongShare) else parsed

    @field_validator("routers", mode="before")
    @classmethod
    def _empty_options(cls, value: Any) -> Any:
        return {name: options or {} for name, options in value.items()} if isinstance(value, dict) else value

    def router_options(self, name: str) -> dict[str, Any]:
        """Return the options that router ``name`` is built with, the common embedder included."""
        options = dict(self.routers.get(name, {}))
        if self.embedder is not None and name in ("mf", "sw_ranking"):
            options.setdefault("embedder", self.embedder)
        return options


def load_config(path: str | Path | None = None, *, environment: Mapping[str, str] | None = None) -> RouteLLMConfig:
    """Read the configuration.

    Args:
        path: a YAML file in either form; None takes the file that ``ROUTELLM_CONFIG`` names, if any.
        environment: stands in for the process's environment.

    Raises:
        ConfigError: the file is missing or not YAML, or it or the environment holds an unknown key, a wrong type or
            a value out of range; every fault is named with its path and the nearest valid name.
    """
    variables = os.environ if environment is None else environment
    source = path or variables.get("ROUTELLM_CONFIG")
    data = _read_yaml(Path(source).expanduser(), variables) if source else {}
    subject = str(source) if source else "configuration"
    data = _fuller_form(data, subject)
    for variable, location in ENVIRONMENT.items():
        if variables.get(variable):
            _fill_in(data, location, variables[variable])
    return validated(RouteLLMConfig, data, subject=subject)


def build_controller(
    config: RouteLLMConfig | None = None,
    *,
    routers: list[str] | None = None,
    backend: ChatBackend | None = None,
    progress_bar: bool = False,
) -> Controller:
    """Build the controller that a configuration describes.

    Args:
        config: by default :func:`load_config`'s.
        routers: the routers to load, the first being the default; by default the configured one.
        backend: calls the models; by default litellm.
        progress_bar: show progress while loading and scoring.

    Raises:
        RouteLLMError: whatever loading the routers raises.
    """
    config = config or load_config()
    names = routers or [config.router]
    return Controller(
        names,
        config.models.strong,
        config.models.weak,
        {name: config.router_options(name) for name in names},
        progress_bar=progress_bar,
        threshold=config.threshold,
        calibration=config.calibration,
        backend=backend,
        resilience=config.fallback.policy(),
        selector_options={
            "on_scoring_error": config.on_scoring_error,
            "no_prompt_tier": config.no_prompt_tier,
            "sticky": config.sticky,
        },
    )


def _read_yaml(path: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"configuration file {str(path)!r} does not exist") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration file {str(path)!r} is not readable YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the top level must be a mapping, not a {type(content).__name__}")
    expanded: dict[str, Any] = _expand(content, variables, str(path))
    return expanded


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def _expand(value: Any, variables: Mapping[str, str], path: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, variables, f"{path}: {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, variables, path) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        found = variables.get(match["name"], match["default"])
        if found is None:
            raise ConfigError(
                f"{path}: the environment variable {match['name']} is not set; set it, or give a default as in "
                f"${{{match['name']}:-default}}"
            )
        return found

    return _VARIABLE.sub(replacement, value)


def _fuller_form(data: dict[str, Any], subject: str) -> dict[str, Any]:
    """Move RouteLLM's top-level router mappings under ``routers``; refuse any other unknown key."""
    sections = list(RouteLLMConfig.model_fields)
    routers = available_routers()
    fuller: dict[str, Any] = {key: value for key, value in data.items() if key in sections}
    for key, value in data.items():
        if key in sections:
            continue
        if key not in routers:
            raise ConfigError(
                f"{subject}: unknown key {key!r}; allowed here: {', '.join(sections)}, or a router's name "
                f"({', '.join(routers)}).{did_you_mean(str(key), [*sections, *routers])}"
            )
        fuller["routers"] = {**(fuller.get("routers") or {}), key: value}
    for key in fuller.get("routers") or {}:
        if key not in routers:
            raise ConfigError(
                f"{subject}: unknown router 'routers.{key}'; available: {', '.join(routers)}."
                f"{did_you_mean(str(key), routers)}"
            )
    return fuller


def _fill_in(data: dict[str, Any], location: tuple[str, ...], value: str) -> None:
    *sections, last = location
    for section in sections:
        inner = data.get(section)
        if isinstance(inner, str):  # a model given by its name alone
            inner = {"model": inner}
        elif inner is None:
            inner = {}
        if not isinstance(inner, dict):
            return  # a wrong type, which validation reports with its path
        data[section] = inner = dict(inner)
        data = inner
    data.setdefault(last, value)
