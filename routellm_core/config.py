"""Configuration: RouteLLM's YAML as it is, or the fuller form; the environment fills in what the file leaves out.

RouteLLM's form maps router names to their options::

    mf:
      checkpoint_path: routellm/mf_gpt4_augmented

The fuller form puts them under ``routers`` beside the other settings (see ``config.example.yaml``). In both,
``${NAME}`` and ``${NAME:-default}`` inside a string are replaced from the environment. Precedence: what code passes,
then the file, then the environment, then the defaults. Every setting has a variable: ``ROUTELLM_`` and its path, with
two underscores between the parts (``ROUTELLM_FALLBACK__ATTEMPTS``); the usual ones have short names too.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from routellm_core._options import fields_at, validated
from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.controller import Controller
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import ConfigError, did_you_mean
from routellm_core.memory import ConversationMemory
from routellm_core.routers.registry import available_routers
from routellm_core.server.settings import ServerSettings
from routellm_core.types import PairTier

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
"""Short names of environment variables, and the settings that they fill in. ``ROUTELLM_CONFIG`` names the file."""

_PREFIX, _DELIMITER = "ROUTELLM_", "__"
# What is read elsewhere, and what Kubernetes sets for a service called routellm.
_NO_SETTING = re.compile(r"ROUTELLM_(CONFIG|DATA_DIR|JUDGE_API_KEY|SHARED|SERVICE_(HOST|PORT)\w*|PORT|PORT_\d\w*)")


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
    cooldown_after: int = Field(default=6, ge=0)
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
        wrappers: further names of blocks around the user's words that are not scored.
        sticky: ``"auto"`` keeps a conversation on the strong model once it needed that, until an easy question of its
            own; ``"conversation"`` keeps it there for good; None does not.
        sticky_release: a question is easy that scores below this share of the threshold.
        sticky_idle_seconds: a conversation is forgotten so long after its last request.
        sticky_store: ``redis://host:6379/0`` shares what is remembered between processes and hosts.
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
    no_prompt_tier: PairTier = "strong"
    wrappers: tuple[str, ...] = ()
    sticky: Literal["auto", "conversation"] | None = "auto"
    sticky_release: float = Field(default=0.5, ge=0, le=1)
    sticky_idle_seconds: float = Field(default=3600.0, gt=0)
    sticky_store: str | None = None
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

    def memory(self) -> ConversationMemory:
        """Return a memory of conversations as configured; two of them share what they know only through a store."""
        return ConversationMemory(ttl_seconds=self.sticky_idle_seconds, store=self.sticky_store)

    def controller_options(self, routers: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of :class:`~routellm_core.controller.Controller` that the configuration gives.

        Args:
            routers: the names of the routers to load.
        """
        return {
            "config": {name: self.router_options(name) for name in routers},
            "threshold": self.threshold,
            "calibration": self.calibration,
            "resilience": self.fallback.policy(),
            "selector_options": {
                "on_scoring_error": self.on_scoring_error,
                "no_prompt_tier": self.no_prompt_tier,
                "wrappers": self.wrappers,
                "sticky": self.sticky,
                "sticky_release": self.sticky_release,
                "memory": self.memory(),
            },
        }


def load_config(path: str | Path | None = None, *, environment: Mapping[str, str] | None = None) -> RouteLLMConfig:
    """Read the configuration.

    Args:
        path: a YAML file in either form; None takes the file that ``ROUTELLM_CONFIG`` names, if any.
        environment: stands in for the process's environment.

    Raises:
        ConfigError: the file is missing or not YAML, or it or the environment holds an unknown key, a wrong type or
            a value out of range; every fault is named with its source, its path and the nearest valid name.

    Warns:
        UserWarning: a variable that begins with ``ROUTELLM_`` names no setting, nor is it near to one.
    """
    variables = os.environ if environment is None else environment
    source = path or variables.get("ROUTELLM_CONFIG")
    data = _read_yaml(Path(source).expanduser(), variables) if source else {}
    subject = str(source) if source else "configuration"
    data = _fuller_form(data, subject)
    sources: dict[tuple[int | str, ...], str] = {}
    for variable, value in variables.items():
        if value and variable.startswith(_PREFIX) and not _NO_SETTING.fullmatch(variable):
            location = ENVIRONMENT.get(variable) or _location(variable)
            if location and _fill_in(data, location, _read_variable(location, value)):
                sources[location] = f"environment variable {variable}"
    return validated(RouteLLMConfig, data, subject=subject, sources=sources)


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
    models = config.models
    return Controller(names, models.strong, models.weak, config, progress_bar=progress_bar, backend=backend)


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


def _location(variable: str) -> tuple[str, ...] | None:
    """Return the path of the setting that a variable's long name means; None, with a warning, where there is none."""
    location = tuple(variable.removeprefix(_PREFIX).lower().split(_DELIMITER))
    for depth, part in enumerate(location):
        if depth and location[:depth] == ("routers",):
            allowed = available_routers()
        else:
            allowed = fields_at(RouteLLMConfig, location[:depth])
            if depth and _is_free(location[:depth]):
                return location
        if part not in allowed:
            break
    else:
        return location
    siblings = (_DELIMITER.join([*location[:depth], name]).upper() for name in allowed)
    names = [*ENVIRONMENT, *(f"{_PREFIX}{name}" for name in siblings)]
    short = {name.removeprefix(_PREFIX): name for name in names}
    nearest = did_you_mean(variable.removeprefix(_PREFIX), short)
    told = f"environment variable {variable} names no setting; see docs/configuration.md for those that do."
    if nearest:
        raise ConfigError(told + nearest.replace("'", f"'{_PREFIX}", 1))
    warnings.warn(told, stacklevel=3)
    return None


def _read_variable(location: tuple[str, ...], value: str) -> Any:
    """Return a variable's value: JSON for a list, a mapping, and what is in a mapping of free form."""
    if value.lstrip()[:1] in ("[", "{") or any(_is_free(location[:depth]) for depth in range(1, len(location))):
        with suppress(ValueError):  # no JSON: the setting's own validation says what it takes
            return json.loads(value)
    return value


def _is_free(location: tuple[str, ...]) -> bool:
    return fields_at(RouteLLMConfig, location) == fields_at(RouteLLMConfig, location[:-1])


def _fill_in(data: dict[str, Any], location: tuple[str, ...], value: Any) -> bool:
    """Set what the file left out; return whether it did."""
    *sections, last = location
    for section in sections:
        inner = data.get(section)
        if isinstance(inner, str):  # a model given by its name alone
            inner = {"model": inner}
        elif inner is None:
            inner = {}
        if not isinstance(inner, dict):
            return False  # a wrong type, which validation reports with its path
        data[section] = inner = dict(inner)
        data = inner
    if last in data:
        return False
    data[last] = value
    return True
