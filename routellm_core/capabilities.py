"""What a model can take (context window, images, tools …), from its settings, else from litellm's map, read offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routellm_core.errors import UnfittingRequestError
from routellm_core.pricing import model_entry
from routellm_core.providers.settings import ModelSettings
from routellm_core.types import Ladder, Tier

_MODALITIES = {
    "image": "supports_vision",
    "audio": "supports_audio_input",
    "file": "supports_pdf_input",
    "video": "supports_video_input",
}
_PARTS = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "input_audio": "audio",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "video_url": "video",
}
_BYTES_PER_TOKEN = 4.0
"""Of UTF-8, under the usual tokenisers; good to about a fifth, for Chinese and Russian as for English."""
_MOST_BYTES_PER_TOKEN = 8.0
"""No text is so easy that a token holds more than this; below that a request certainly does not fit."""
_TOKENS_PER_MEDIUM = 800


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can take; None where it is not known.

    Attributes:
        context_window: tokens of a request.
        max_output_tokens: tokens of an answer.
        modalities: whether it reads ``"image"``, ``"audio"``, ``"file"``, ``"video"``; what is not named is not known.
        tools: whether it calls tools.
        json_schema: whether its answers follow a JSON schema.
    """

    context_window: int | None = None
    max_output_tokens: int | None = None
    modalities: Mapping[str, bool] | None = None
    tools: bool | None = None
    json_schema: bool | None = None

    def takes(self, ability: str) -> bool | None:
        """Return whether the model has an ability that a request may need, None where that is not known."""
        if ability in ("tools", "json_schema"):
            return self.tools if ability == "tools" else self.json_schema
        return (self.modalities or {}).get(ability)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of a model.

    Attributes:
        tokens: an estimate of its length.
        least_tokens: what it certainly has.
        output_tokens: what it asks for at most; 0 where it does not say.
        abilities: such as ``"image"``, ``"tools"`` or ``"json_schema"``.
    """

    tokens: int = 0
    least_tokens: int = 0
    output_tokens: int = 0
    abilities: frozenset[str] = frozenset()


def capabilities_of(model: ModelSettings | str) -> Capabilities:
    """Return what a model can take; its settings win over litellm's map."""
    entry = model_entry(model)
    settings = model if isinstance(model, ModelSettings) else ModelSettings(model=model or "?")
    if settings.modalities is not None:
        modalities = {name: name in settings.modalities for name in _MODALITIES}
    else:
        modalities = {name: bool(entry[key]) for name, key in _MODALITIES.items() if key in entry}
        modalities |= {name: True for name in entry.get("supported_modalities", ()) if name in _MODALITIES}
    return Capabilities(
        context_window=_first(settings.context_window, _tokens(entry, "max_input_tokens", "max_tokens")),
        max_output_tokens=_first(settings.max_output_tokens, _tokens(entry, "max_output_tokens")),
        modalities=modalities or None,
        tools=_first(settings.tools, entry.get("supports_function_calling")),
        json_schema=_first(settings.json_schema, entry.get("supports_response_schema")),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _tokens(entry: Mapping[str, Any], *names: str) -> int | None:
    found = next((entry[name] for name in names if isinstance(entry.get(name), (int, float))), None)
    return None if found is None else int(found)


def common_capabilities(models: Iterable[Capabilities]) -> Capabilities:
    """Return what holds for each of the models: the smaller window, the abilities of all."""
    each = list(models)
    names = {name for able in each for name in able.modalities or {}}
    together = {name: all(able.takes(name) for able in each) for name in names}
    return Capabilities(
        context_window=min((able.context_window for able in each if able.context_window), default=None),
        max_output_tokens=min((able.max_output_tokens for able in each if able.max_output_tokens), default=None),
        modalities=together or None,
        tools=_of_all([able.tools for able in each]),
        json_schema=_of_all([able.json_schema for able in each]),
    )


def _of_all(values: Sequence[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def needs_of(parameters: Mapping[str, Any]) -> Needs:
    """Return what a request of OpenAI's chat completions, completions or responses needs."""
    size = media = 0
    abilities = set()
    for field in ("messages", "input", "prompt", "instructions"):
        bytes_, kinds = _measured(parameters.get(field))
        size += bytes_
        media += len(kinds)
        abilities |= set(kinds)
    tools = parameters.get("tools") or parameters.get("functions")
    if isinstance(tools, Sequence) and tools:
        size += len(json.dumps(tools, default=str))
        if parameters.get("tool_choice") != "none":
            abilities.add("tools")
    if _wants_schema(parameters):
        abilities.add("json_schema")
    limits = (parameters.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    wanted = next((value for value in limits if isinstance(value, int)), 0)
    return Needs(
        tokens=int(size / _BYTES_PER_TOKEN) + media * _TOKENS_PER_MEDIUM,
        least_tokens=int(size / _MOST_BYTES_PER_TOKEN),
        output_tokens=wanted,
        abilities=frozenset(abilities),
    )


def _wants_schema(parameters: Mapping[str, Any]) -> bool:
    text = parameters.get("text")
    forms = (parameters.get("response_format"), text.get("format") if isinstance(text, Mapping) else None)
    return any(isinstance(form, Mapping) and form.get("type") == "json_schema" for form in forms)


def _measured(value: Any) -> tuple[int, list[str]]:
    """Return the bytes of the texts in nested values, and the kinds of the media."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")), []
    if isinstance(value, Mapping):
        if (kind := _PARTS.get(str(value.get("type")))) is not None:
            return 0, [kind]
        items: Iterable[Any] = (item for key, item in value.items() if key not in ("id", "role", "type"))
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        return 0, []
    size, kinds = 0, []
    for item in items:
        more, found = _measured(item)
        size += more
        kinds += found
    return size, kinds


def misfits(needs: Needs, able: Mapping[Tier, Capabilities], ladder: Ladder) -> dict[Tier, str]:
    """Return which models cannot take a request, and why.

    What is not known of a model does not count against it, unless another one is known to have it.

    Raises:
        UnfittingRequestError: none can; where only the estimate of the length says so, the largest is left to try.
    """
    found = {tier: why for tier in ladder.tiers if (why := _misfit(needs, tier, able))}
    if len(found) < len(ladder.tiers):
        return found
    largest = max(ladder.tiers, key=lambda tier: able[tier].context_window or 0)
    window = able[largest].context_window or 0
    if not _missing(needs, largest, able) and needs.least_tokens <= window:
        return {tier: why for tier, why in found.items() if tier != largest}
    said = "; ".join(f"{ladder.of(tier)!r} {why}" for tier, why in found.items())
    is_long = all(_is_too_long(needs, able[tier]) for tier in ladder.tiers)
    raise UnfittingRequestError(
        f"no model here can take this request: {said}. Shorten it, or configure a model that can",
        code="context_length_exceeded" if is_long else "unsupported_value",
    )


def _misfit(needs: Needs, tier: Tier, able: Mapping[Tier, Capabilities]) -> str | None:
    if missing := _missing(needs, tier, able):
        return f"does not take {', '.join(missing)}"
    if _is_too_long(needs, able[tier]):
        asked = f" and {needs.output_tokens} of an answer" if needs.output_tokens else ""
        return f"holds {able[tier].context_window} tokens of about {needs.tokens}{asked}"
    return None


def _missing(needs: Needs, tier: Tier, able: Mapping[Tier, Capabilities]) -> list[str]:
    def lacks(ability: str) -> bool:
        own = able[tier].takes(ability)
        is_known = able[tier] != Capabilities()
        return own is False or (own is None and is_known and any(other.takes(ability) for other in able.values()))

    return sorted(ability.replace("_", " ") for ability in needs.abilities if lacks(ability))


def _is_too_long(needs: Needs, able: Capabilities) -> bool:
    return able.context_window is not None and needs.tokens + needs.output_tokens > able.context_window
