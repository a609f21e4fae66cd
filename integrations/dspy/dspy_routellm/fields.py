"""What a DSPy call is routed on: the values of the signature's input fields, read back out of the rendered prompt.

An adapter turns ``question="hi?"`` into hundreds of characters of instructions, field descriptions, demos and format
reminders. How hard the call is, is in the value alone. Of the messages, only the last user message that holds an input
field counts: demos and earlier turns come before it. Left out are the fields that grow while a module works (a
trajectory, an interpreter's output), so that every call of such a loop is routed alike.

Of several inputs, those are left out that are material for the answer rather than the request: lists, and fields whose
name ends in a word like "context" or "passages" (:data:`MATERIAL`). ``route_fields`` names the fields instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args, get_origin

import dspy
from dspy.lm15 import Message, Request, TextPart

from routellm_core.errors import ConfigError, UnsupportedPromptError

__all__ = [
    "MATERIAL",
    "Asked",
    "ExtractFromRequest",
    "InputNames",
    "checked_route_fields",
    "current_input_names",
    "input_text",
    "read_request",
]

ExtractFromRequest: TypeAlias = Callable[[Request], str | None]
"""Picks the text to route on out of a request, or None when there is none."""

_WORKING_FIELDS = frozenset(
    {"trajectory", "history", "repl_history", "iteration", "tool_call_results", "tools", "hint_"}
)
"""Inputs that DSPy's own modules fill while they work; a user's field of that name is routed on if it is asked for."""
MATERIAL = frozenset(
    {
        "background", "chunk", "chunks", "content", "contents", "context", "contexts", "corpus", "doc",
        "docs", "document", "documents", "evidence", "excerpt", "excerpts", "fact", "facts", "knowledge",
        "memory", "nodes", "notes", "page", "pages", "paragraph", "paragraphs", "passage", "passages",
        "reference", "references", "results", "retrieved", "snippet", "snippets", "source", "sources",
        "table", "tables", "transcript",
    }
)  # fmt: skip
"""Last words of the names of inputs that hold material, such as ``passages`` and ``retrieved_context``."""

_PROGRESS = frozenset({"trajectory", "repl_history", "tool_call_results"})
_WORKING_TYPES = (dspy.History, dspy.Tool, dspy.ToolCalls)

_CHAT_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*$", re.MULTILINE)
_XML_FIELD = re.compile(r"^<(\w+)>\n(.*?)\n?</\1>$", re.MULTILINE | re.DOTALL)
_REMINDER = re.compile(
    r"(?:^|\n\n)Respond with (?:the corresponding output fields|a JSON object in the following order of fields)"
)

_MEDIA = "\ufffc"  # Unicode's placeholder for an embedded object


@dataclass(frozen=True)
class InputNames:
    """The input fields of a call.

    Attributes:
        wanted: those that it is routed on.
        known: all that its caller fills; with none known (a direct call of the LM), rendered fields of any name count.
        rendered: all that the prompt may hold, working fields included.
    """

    wanted: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    rendered: tuple[str, ...] = ()


def checked_route_fields(route_fields: Any) -> tuple[str, ...] | None:
    """Return ``route_fields`` as names, or None for all input fields.

    Raises:
        ConfigError: not a list of field names.
    """
    if route_fields is None:
        return None
    if isinstance(route_fields, str) or not isinstance(route_fields, Collection) or not route_fields:
        raise ConfigError(f"route_fields={route_fields!r} must be a list of input field names, such as ['question']")
    for name in route_fields:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"route_fields: {name!r} is not the name of a field")
    return tuple(route_fields)


def current_input_names(route_fields: Sequence[str] | None) -> InputNames:
    """Return the input fields of the predictor that is calling its LM in this context.

    A module of DSPy's own that wraps the predictor (``ReAct``, ``ProgramOfThought`` …) adds working fields to its
    signature, so that only the fields which it was called with itself are taken.

    Args:
        route_fields: restricts them. A predictor that has none of these is routed on all its inputs.
    """
    *enclosing, caller = dspy.settings.caller_modules or [None]
    if not isinstance(caller, dspy.Predict):
        return InputNames()
    fields = caller.signature.input_fields
    filled = [name for name in fields if name not in _WORKING_FIELDS and not _is_working(fields[name].annotation)]
    if chosen := [name for name in fields if name in (route_fields or ())]:
        return InputNames(frozenset(chosen), frozenset({*filled, *chosen}), tuple(fields))
    wanted = _requests(filled, lambda name: _is_list(fields[name].annotation))
    for module in enclosing:
        if _is_dspys_own(module):
            wanted = [name for name in wanted if name in module.signature.input_fields] or wanted
    return InputNames(frozenset(wanted), frozenset(filled), tuple(fields))


def _requests(names: Sequence[str], is_list: Callable[[str], bool]) -> list[str]:
    """Return the inputs that carry the request; all of them where none does."""
    return [name for name in names if name.rsplit("_", 1)[-1].lower() not in MATERIAL and not is_list(name)] or [*names]


def _is_list(annotation: Any) -> bool:
    members = get_args(annotation)
    kinds = (annotation, *members) if type(None) in members else (annotation,)
    return any((get_origin(kind) or kind) in (list, tuple, set) for kind in kinds)


def _is_working(annotation: Any) -> bool:
    return annotation in _WORKING_TYPES or any(item in _WORKING_TYPES for item in get_args(annotation))


def _is_dspys_own(module: Any) -> bool:
    has_signature = hasattr(getattr(module, "signature", None), "input_fields")
    return has_signature and any(base.__module__.startswith("dspy.predict.") for base in type(module).__mro__)


@dataclass(frozen=True)
class Asked:
    """What a request asks.

    Attributes:
        text: what it is routed on; None where there is none (an image alone).
        index: of the message that it stands in, or None.
        is_rendered: whether an adapter rendered it out of fields.
        is_under_way: whether a module is at work on it already, by its working fields.
    """

    text: str | None = None
    index: int | None = None
    is_rendered: bool = False
    is_under_way: bool = False


def read_request(request: Request, route_fields: Sequence[str] | None = None) -> Asked:
    """Return what a request asks.

    A prompt that no adapter rendered is routed on as it is, by its last user message with text.

    Args:
        request: what DSPy's LM layer hands to an engine.
        route_fields: see :func:`current_input_names`.
    """
    names = current_input_names(route_fields)
    users = [
        (index, _without_reminder(_text(message)))
        for index, message in enumerate(request.messages)
        if message.role == "user"
    ]
    for index, text in reversed(users):
        fields = _rendered_fields(text, names)
        if fields is not None:
            is_own = not names.known & fields.keys()  # of a prompt that an adapter made for itself
            values = (value for name, value in fields.items() if is_own or name in names.wanted)
            asked = "\n\n".join(filter(None, map(_without_media, values))) or None
            # Adapters render a trajectory as fields of its own.
            steps = fields.keys() - set(names.rendered) if not is_own and _PROGRESS & fields.keys() else ()
            return Asked(asked, index, True, bool(steps) or any(fields.get(name) for name in _PROGRESS))
    for index, text in reversed(users):
        if plain := _without_media(text):
            return Asked(plain, index)
    return Asked()


def input_text(inputs: Mapping[str, Any], route_fields: Sequence[str] | None = None) -> str | None:
    """Return the text that a program call is routed on: the text values among its keyword arguments.

    Values that are no text (numbers …) count as their ``str``; images, histories, tools and other DSPy types do not
    count, and material does only where there is nothing else.

    Args:
        inputs: the program's keyword arguments.
        route_fields: restricts them.

    Raises:
        UnsupportedPromptError: none of ``route_fields`` is among the inputs.
    """
    names = [name for name in route_fields or () if name in inputs]
    if not names and route_fields is not None:
        raise UnsupportedPromptError(
            f"route_fields={list(route_fields)!r}, but the program was called with {', '.join(inputs) or 'no inputs'}"
        )
    if route_fields is None:
        filled = [name for name in inputs if name not in _WORKING_FIELDS and _plain_text(inputs[name])]
        names = _requests(filled, lambda name: isinstance(inputs[name], (list, tuple, set)))
    values = [_plain_text(inputs[name]) for name in names]
    return "\n\n".join(value for value in values if value) or None


def _plain_text(value: Any) -> str:
    if value is None or isinstance(value, dspy.Type | dspy.History | bytes):
        return ""
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, map(_plain_text, value)))
    return str(value).strip()


def _text(message: Message) -> str:
    return "".join(part.text if isinstance(part, TextPart) else _MEDIA for part in message.parts)


def _without_media(text: str) -> str:
    return text.replace(f'"{_MEDIA}"', "").replace(_MEDIA, "").strip()  # BAMLAdapter quotes what it embeds


def _rendered_fields(text: str, names: InputNames) -> dict[str, str] | None:
    """Return the fields in a message, or None where no adapter rendered inputs into it."""
    for parse in (_chat_fields, _xml_fields, _plain_fields):
        fields = parse(text, names.rendered)
        if fields.keys() & names.known:
            return fields
    # Adapters make prompts of their own too, with other fields than the signature's: TwoStepAdapter's extraction.
    if text.startswith(("[[ ## ", "<")):
        fields = _chat_fields(text, ()) or _xml_fields(text, ())
        if fields and not fields.keys() & _WORKING_FIELDS:
            return fields
    return None


def _without_reminder(text: str) -> str:
    """Cut the format reminder that adapters put after the last field."""
    found = None
    for found in _REMINDER.finditer(text):  # noqa: B007 (the last one is the adapter's)
        pass
    return (text[: found.start()] if found else text).strip()


def _chat_fields(text: str, _names: Sequence[str]) -> dict[str, str]:
    pieces = _CHAT_HEADER.split(text)
    values: dict[str, str] = {}
    for name, value in zip(pieces[1::2], pieces[2::2], strict=True):
        values.setdefault(name, value.strip())
    return values


def _xml_fields(text: str, _names: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for match in _XML_FIELD.finditer(text):
        values.setdefault(match[1], match[2].strip())
    return values


def _plain_fields(text: str, names: Sequence[str]) -> dict[str, str]:
    """Read ``name: value`` paragraphs (TwoStepAdapter), which only known names can tell from prose."""
    if not text.startswith(tuple(f"{name}:" for name in names)):
        return {}
    pieces = re.split(rf"(?:^|\n\n)({'|'.join(map(re.escape, names))}):(?: |$)", text)
    values: dict[str, str] = {}
    for name, value in zip(pieces[1::2], pieces[2::2], strict=True):
        values.setdefault(name, value.strip())
    return values
