"""Replies in the forms that frameworks ask for in the prompt's own words, where no tool or schema is sent along."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from routellm_core.prompts import message_text
from routellm_core.testing.replies import json_from_schema

__all__ = ["prompted_reply"]

_REACT_TOOL = re.compile(r"> Tool Name: (?P<name>\S+)\n.*?Tool Args: (?P<schema>\{.*?\})\n", re.DOTALL)
_TOOLS_BLOCK = re.compile(
    r"<Tools>\s*```json\n(?P<tools>\{.*?\})\n```\s*<User Question>\n(?P<question>.*?)\n", re.DOTALL
)


def prompted_reply(request: Mapping[str, Any]) -> str | None:
    """Return the reply that a prompt spells out, or None where it spells out none.

    - **ReAct** (a system text with tools and ``Thought: … Action: … Action Input: …``): an action with the tool whose
      name shares a word with the question, then an answer with what was observed.
    - **Sub-questions** (``<Tools>`` and ``<User Question>``): one for each tool, as JSON.
    - **Selections** (``Some choices are given below``): the choice that shares most words with the question, as JSON.

    It is what ``LocalModelServer(reply=…)`` takes.
    """
    if (request.get("response_format") or {}).get("type") in ("json_schema", "json_object"):
        return None
    model, messages = request["model"], request["messages"]
    text = next((message_text(item) for item in reversed(messages) if item.get("role") == "user"), "")
    if found := list(_TOOLS_BLOCK.finditer(text)):  # the first ones are the prompt's examples
        tools, question = json.loads(found[-1]["tools"]), found[-1]["question"].strip()
        items = [{"sub_question": f"{question} (as {tool} knows it)", "tool_name": tool} for tool in tools]
        return f"```json\n{json.dumps({'items': items})}\n```"
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


def _likeliest(text: str) -> int:
    choices, _, question = text.partition("Using only the choices above")
    words = set(re.findall(r"[a-z]{4,}", question.partition("relevant to")[2].partition("The output")[0].lower()))
    found = re.findall(r"^\((\d+)\) (.*)$", choices, re.MULTILINE)
    shared = {int(number): len(words & set(re.findall(r"[a-z]{4,}", choice.lower()))) for number, choice in found}
    return max(shared, key=lambda number: shared[number], default=1)
