"""Schemas and tool choices in OpenAI's form, and the parsers of what models make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.utils.function_calling import convert_to_openai_function, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

__all__ = ["method_binding", "openai_tool_choice", "output_parser", "response_format_of"]


def openai_tool_choice(tool_choice: Any, tools: Sequence[dict[str, Any]]) -> Any:
    """Translate LangChain's ways of choosing a tool.

    Raises:
        ValueError: a name that no tool has.
    """
    if isinstance(tool_choice, dict):
        return tool_choice
    if tool_choice is True or tool_choice in ("any", "required"):
        return "required"
    if tool_choice in ("auto", "none"):
        return tool_choice
    names = [tool.get("function", tool).get("name") for tool in tools]
    if tool_choice not in names:
        raise ValueError(
            f"tool_choice={tool_choice!r} must be 'auto', 'none', 'any' or a tool's name: {', '.join(map(str, names))}"
        )
    return {"type": "function", "function": {"name": tool_choice}}


def response_format_of(schema: Any, strict: bool | None) -> dict[str, Any]:
    """Return a schema as a ``response_format``; one that is in this form already stays as it is."""
    if isinstance(schema, dict) and schema.get("type") in ("json_schema", "json_object", "text"):
        return schema
    function = convert_to_openai_function(schema, strict=strict)
    function["schema"] = function.pop("parameters")
    return {"type": "json_schema", "json_schema": function}


def method_binding(schema: Any, method: str, strict: bool | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the tools and call parameters of a method of structured output.

    Raises:
        ValueError: an unknown method, or ``strict`` with ``"json_mode"``.
    """
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        return [schema], {"tool_choice": name, "parallel_tool_calls": False}
    if method == "json_schema":
        return [], {"response_format": response_format_of(schema, strict)}
    if method != "json_mode":
        raise ValueError(f"method={method!r} must be 'function_calling', 'json_mode' or 'json_schema'")
    if strict is not None:
        raise ValueError("strict is not supported with method='json_mode', which sends no schema")
    return [], {"response_format": {"type": "json_object"}}


def output_parser(schema: Any, method: str) -> BaseOutputParser[Any]:
    """Return the parser that turns a model's message into an instance (pydantic classes) or a dictionary."""
    is_pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    if method != "function_calling":
        return PydanticOutputParser(pydantic_object=schema) if is_pydantic else JsonOutputParser()
    if is_pydantic:
        return PydanticToolsParser(tools=[cast("Any", schema)], first_tool_only=True)
    name = convert_to_openai_tool(schema)["function"]["name"]
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
