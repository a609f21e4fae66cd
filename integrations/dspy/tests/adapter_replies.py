"""What the local models answer here to prompts of DSPy's adapters: fields, in the format that the prompt asks for.

The request alone is enough, since an adapter ends its prompt with the names and types of the wanted fields. The models
have a skill that differs, so that programs, metrics and optimizers have something to find out: each can add and
subtract, but a model named small, mini, nano or weak multiplies and divides wrongly.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Mapping
from typing import Any

from routellm_core.prompts import message_text
from routellm_core.testing.replies import json_from_schema

__all__ = ["adapter_reply"]

_CHAT = "Respond with the corresponding output fields, starting with the field "
_JSON = "Respond with a JSON object in the following order of fields: "
_XML = "Respond with the corresponding output fields wrapped in XML tags "
_CHAT_FIELD = re.compile(
    r"`\[\[ ## (\w+) ## \]\]`(?: \(must be (?:formatted as a valid Python |a )(.*?)\)(?=, |\.|$))?", re.DOTALL
)
_JSON_FIELD = re.compile(r"`(\w+)`(?: \(must be (?:formatted as a valid Python |a )(.*?)\)(?=, |\.|$))?", re.DOTALL)
_XML_FIELD = re.compile(r"`<(\w+)>`")
_DESCRIBED = re.compile(r"^\d+\. `(\w+)` \((.*?)\):", re.MULTILINE)
_INPUT = re.compile(
    r"^\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with |\Z)|^<(\w+)>\n(.*?)\n</\3>",
    re.MULTILINE | re.DOTALL,
)
_TERM = re.compile(r"(-?\d+(?:\.\d+)?)\s*([-+*/x×÷]|plus|minus|times|divided by)\s*(-?\d+(?:\.\d+)?)")
_TOOL = re.compile(r"\(\d+\) (\w+)(?:[,.].*?)?It takes arguments (\{.*?\})\.(?=\s*(?:\n|$))", re.DOTALL)
_OPERATORS = {
    "+": operator.add, "plus": operator.add, "-": operator.sub, "minus": operator.sub,
    "*": operator.mul, "x": operator.mul, "×": operator.mul, "times": operator.mul,
    "/": operator.truediv, "÷": operator.truediv, "divided by": operator.truediv,
}  # fmt: skip
_LESSER = re.compile(r"small|mini|nano|weak")


def adapter_reply(request: Mapping[str, Any]) -> str | None:
    """Answer a prompt of ChatAdapter, JSONAdapter or XMLAdapter; None where no adapter made the prompt.

    Args:
        request: the body of POST /v1/chat/completions.
    """
    texts = [message_text(item) for item in request["messages"] if item.get("role") == "user"]
    last = texts[-1] if texts else ""
    start, fields = _wanted(last)
    if not fields:
        return None
    system = "\n".join(message_text(item) for item in request["messages"] if item.get("role") == "system")
    types = dict(_DESCRIBED.findall(system.partition("Your output fields are:")[2]))
    inputs = {match[1] or match[3]: (match[2] or match[4] or "").strip() for match in _INPUT.finditer(last[:start])}
    task = _Task(str(request["model"]), inputs, system)
    values = {name: task.value(name, kind or types.get(name, "str")) for name, kind in fields}
    response_format = request.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        filled = json_from_schema(response_format["json_schema"].get("schema", {}), last)
        return json.dumps(_with_fields(filled, values) if last.startswith(_JSON, start) else filled)
    if last.startswith(_JSON, start):
        return json.dumps(values)
    if last.startswith(_XML, start):
        return "\n\n".join(f"<{name}>\n{_escaped(_plain(value))}\n</{name}>" for name, value in values.items())
    blocks = [f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in values.items()]
    return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def _with_fields(filled: Any, values: Mapping[str, Any]) -> Any:
    """Return a schema's filling with the plain values in the places of their type."""
    if not isinstance(filled, dict):
        return filled
    fitting = {name: value for name, value in values.items() if type(value) is type(filled.get(name))}
    return {**filled, **{name: value for name, value in fitting.items() if not isinstance(value, list | dict)}}


def _wanted(text: str) -> tuple[int, list[tuple[str, str]]]:
    """Return where the reminder begins, and the fields and types in it."""
    for opening, pattern in ((_XML, _XML_FIELD), (_CHAT, _CHAT_FIELD), (_JSON, _JSON_FIELD)):
        start = text.rfind(opening)
        if start >= 0:
            found = pattern.findall(text[start + len(opening) :])
            fields = [(item, "") if isinstance(item, str) else (item[0], item[1]) for item in found]
            return start, [(name, kind) for name, kind in fields if name != "completed"]
    return -1, []


class _Task:
    """One call: the inputs, and what the model makes of each output field."""

    def __init__(self, model: str, inputs: Mapping[str, str], system: str) -> None:
        self._model = model
        self._inputs = inputs
        self._system = system
        self._trajectory = inputs.get("trajectory", "")
        self._question = " ".join(text for name, text in inputs.items() if name != "trajectory")

    def value(self, name: str, kind: str) -> Any:
        """Return a value of the type that ``kind`` spells in Python."""
        if name in ("next_tool_name", "next_tool_args"):
            return self._next_tool() if name == "next_tool_name" else self._tool_arguments()
        kind = kind.strip()
        if kind.startswith("Literal["):
            choices = ast.literal_eval(f"[{kind[len('Literal[') : kind.rindex(']')]}]")
            said = self._question.lower()
            return next((choice for choice in choices if str(choice).lower() in said), choices[0])
        if kind in ("int", "float"):
            number = self._result()
            return round(number) if kind == "int" else number
        if kind == "bool":
            return True
        if kind.startswith("list"):
            return [self._text(name)] if "str" in kind else []
        return {} if kind.startswith("dict") else self._text(name)

    def _text(self, name: str) -> str:
        if name == "generated_code":
            return f"```python\nprint({_number_text(self._result())})\n```"
        if name in ("reasoning", "next_thought", "rationale"):
            return f"{self._model} thinks about it."
        if _TERM.search(self._question):
            return _number_text(self._result())
        return f"{self._model} answers: {self._question}"

    def _result(self) -> float:
        term = _TERM.search(self._question)
        if term is None:
            numbers = re.findall(r"-?\d+(?:\.\d+)?", self._trajectory or self._question)
            return float(numbers[-1]) if numbers else 1.0
        left, sign, right = float(term[1]), term[2], float(term[3])
        if sign in ("/", "÷", "divided by") and right == 0:
            return 0.0
        result = float(_OPERATORS[sign](left, right))
        is_hard = _OPERATORS[sign] in (operator.mul, operator.truediv)
        return result + 1 if is_hard and _LESSER.search(self._model) else result

    def _tools(self) -> list[tuple[str, Any]]:
        return [(name, arguments) for name, arguments in _TOOL.findall(self._system) if name != "finish"]

    def _next_tool(self) -> str:
        unused = [name for name, _ in self._tools() if name not in self._trajectory]
        return unused[0] if unused and not self._trajectory else "finish"

    def _tool_arguments(self) -> dict[str, Any]:
        chosen = self._next_tool()
        schema = next((arguments for name, arguments in self._tools() if name == chosen), "{}")
        numbers = iter(re.findall(r"-?\d+(?:\.\d+)?", self._question))
        return {name: self._argument(item, numbers) for name, item in ast.literal_eval(schema).items()}

    def _argument(self, schema: Mapping[str, Any], numbers: Any) -> Any:
        kind = schema.get("type")
        if kind in ("integer", "number"):
            number = float(next(numbers, 1))
            return int(number) if kind == "integer" else number
        return True if kind == "boolean" else self._question


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"
