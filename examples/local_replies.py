"""What the local models say to frameworks: replies in the forms that prompts ask for in their own words.

``LocalModelServer(reply=local_reply)`` serves them, so that DSPy's programs, LlamaIndex's agents and this library's
judges run without a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from examples.adapter_replies import adapter_reply, with_fields
from routellm_core.prompts import message_text
from routellm_core.testing.replies import json_from_schema

__all__ = ["local_reply"]

_REACT_TOOL = re.compile(r"> Tool Name: (?P<name>\S+)\n.*?Tool Args: (?P<schema>\{.*?\})\n", re.DOTALL)
_COMPARED = re.compile(r"<answer of assistant ([AB])>\n(.*?)\n</answer of assistant \1>", re.DOTALL)
_REFERENCE = re.compile(r"<reference answer>\n(.*?)\n</reference answer>", re.DOTALL)
_TOOLS_BLOCK = re.compile(
    r"<Tools>\s*```json\n(?P<tools>\{.*?\})\n```\s*<User Question>\n(?P<question>.*?)\n", re.DOTALL
)


def local_reply(request: Mapping[str, Any]) -> str | None:
    """Return the reply to a chat completion's request that its prompt spells out, or None where it spells out none."""
    messages, form = request["messages"], request.get("response_format") or {}
    text = next((message_text(item) for item in reversed(messages) if item.get("role") == "user"), "")
    fields = adapter_reply(request)
    if form.get("type") == "json_schema":
        filled = json_from_schema(form["json_schema"].get("schema", {}), text)
        return None if fields is None else json.dumps(with_fields(filled, fields))
    if fields is None and form.get("type") != "json_object":
        return _prompted_reply(request["model"], messages, text)
    return fields


def _prompted_reply(model: str, messages: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """Return the reply to a prompt of no adapter.

    - **ReAct** (a system text with tools and ``Thought: … Action: … Action Input: …``): an action with the tool whose
      name shares a word with the question, then an answer with what was observed.
    - **Sub-questions** (``<Tools>`` and ``<User Question>``): one for each tool, as JSON.
    - **Comparisons** (two answers in ``<answer of assistant A>`` and ``…B>``): a verdict. The answer that holds the
      reference answer is preferred, where one is given, else the longer one; a model named ``…-first`` always prefers
      what it reads first, ``…-vague`` decides nothing.
    - **Selections** (``Some choices are given below``): the choice that shares most words with the question, as JSON.
    """
    if found := list(_TOOLS_BLOCK.finditer(text)):  # the first ones are the prompt's examples
        tools, question = json.loads(found[-1]["tools"]), found[-1]["question"].strip()
        items = [{"sub_question": f"{question} (as {tool} knows it)", "tool_name": tool} for tool in tools]
        return f"```json\n{json.dumps({'items': items})}\n```"
    if len(compared := dict(_COMPARED.findall(text))) == 2:
        return _verdict(model, text, compared)
    if "Some choices are given below" in text and "choice: " in text:
        return json.dumps([{"choice": _likeliest(text), "reason": f"{model} finds it closest to the question"}])
    system = "\n".join(message_text(message) for message in messages if message.get("role") == "system")
    if "Action Input:" in system and "Thought:" in system:
        return _react(model, system, text)
    return None


def _react(model: str, system: str, text: str) -> str:
    if text.startswith("Observation: "):
        observed = text.removeprefix("Observation: ")
        return (
            f"Thought: I can answer without using any more tools.\nAnswer: {model} read the tool's result: {observed}"
        )
    words = set(re.findall(r"[a-z]{4,}", text.lower()))
    for tool in _REACT_TOOL.finditer(system):
        if words & set(re.findall(r"[a-z]{4,}", tool["name"].lower())):
            arguments = json.dumps(json_from_schema(json.loads(tool["schema"]), text))
            return f"Thought: I need to use a tool.\nAction: {tool['name']}\nAction Input: {arguments}"
    return f"Thought: I can answer without using any more tools.\nAnswer: {model} answers: {text}"


def _verdict(model: str, text: str, compared: Mapping[str, str]) -> str:
    if model.endswith("-vague"):
        return "Both answers have their merits."
    if model.endswith("-first"):
        return "The first answer convinces at once.\n[[A]]"
    reference = _REFERENCE.search(text)
    quality = {name: reference[1] in answer if reference else len(answer) for name, answer in compared.items()}
    verdict = "C" if quality["A"] == quality["B"] else max(quality, key=lambda name: quality[name])
    return f"{model} compared both answers.\n[[{verdict}]]"


def _likeliest(text: str) -> int:
    choices, _, question = text.partition("Using only the choices above")
    words = set(re.findall(r"[a-z]{4,}", question.partition("relevant to")[2].partition("The output")[0].lower()))
    found = re.findall(r"^\((\d+)\) (.*)$", choices, re.MULTILINE)
    shared = {int(number): len(words & set(re.findall(r"[a-z]{4,}", choice.lower()))) for number, choice in found}
    return max(shared, key=lambda number: shared[number], default=1)
