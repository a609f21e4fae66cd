"""The OpenAPI description: what is read by hand, for speed and exact passing on, is described by hand too."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from routellm_core.server.openapi_answers import ANSWERS, ERROR

__all__ = ["describe", "request_body"]


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return FastAPI's ``openapi_extra`` for a body that ``model`` checks."""
    schema = model.model_json_schema(mode="validation")
    definitions = schema.pop("$defs", {})
    resolved = _inlined(schema, definitions)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": resolved}}}}


def describe(app: FastAPI) -> None:
    """Make ``/openapi.json`` tell what every path answers with, the error envelope included."""
    app.openapi = partial(_description, app)  # type: ignore[method-assign]


def _description(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR
        error = {
            "description": "OpenAI's error envelope",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["200"]["content"] = {
                    media_type: {"schema": answer} for media_type, answer in ANSWERS[path].items()
                }
                operation["responses"]["4XX"] = error
                operation["responses"]["5XX"] = error
                if path.startswith("/v1/"):
                    operation["security"] = [{}, {"bearer": []}]
        schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(definitions[value["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(item, definitions) for key, item in value.items()}
    return [_inlined(item, definitions) for item in value] if isinstance(value, list) else value
