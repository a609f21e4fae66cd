"""The server against descriptions of itself: its own, and the published one of OpenAI's API (schemathesis)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from routellm_core.testing.local_models import LocalModelServer

Check = Callable[..., Any]

CHECKS: list[Check] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_it_describes_every_path(server: Any) -> None:
    described = httpx.get(f"{server.url}/openapi.json").json()
    assert sorted(described["paths"]) == [
        "/health",
        "/metrics",
        "/ready",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/responses",
        "/v1/route",
    ]
    for operations in described["paths"].values():
        for operation in operations.values():
            assert operation["description"]
            content = operation["responses"]["200"]["content"]
            assert all(media["schema"] for media in content.values())


@pytest.fixture(scope="module", params=["relayed", "litellm"])
def server(request: pytest.FixtureRequest, build: Any, local_models: LocalModelServer) -> Iterator[Any]:
    relay = None if request.param == "relayed" else False
    strong, weak, embedder = ({"model": f"openai/{name}", "relay": relay} for name in ("big", "small", "e"))
    with build(local_models, strong=strong, weak=weak, server={"embedding_model": embedder}) as running:
        yield running


@pytest.fixture(scope="module")
def own(server: Any) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module")
def published(server: Any, shared: Path) -> Any:
    file = shared / "openapi" / "openai-chat-and-models.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    description = json.loads(file.read_text())
    description["servers"] = [{"url": server.base_url}]
    # It gives the schema of a chunk, which is inside an event's data; schemathesis holds the event itself against it.
    # Its discriminators name no values, so that schemathesis takes the schemas' names for them.
    description = without_discriminators(description)
    del description["paths"]["/chat/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=server.base_url)
    return schema


def without_discriminators(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_discriminators(item) for key, item in value.items() if key != "discriminator"}
    return [without_discriminators(item) for item in value] if isinstance(value, list) else value


def run(schema: Any, method: str, path: str, mode: GenerationMode, check: Check) -> None:
    """Call ``check`` with examples of one operation, valid (positive) or invalid (negative) ones."""
    operation = schema[path][method]

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def checked(case: Any) -> None:
        check(case)

    with suppress(Unsatisfiable):  # there is no invalid request to a path that takes nothing
        checked()


GENERATED = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
OPERATIONS = [
    ("POST", "/v1/route"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    *(("POST", path) for path in GENERATED),
]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_it_is_as_it_describes_itself(own: Any, method: str, path: str, mode: GenerationMode) -> None:
    checks = [*CHECKS, negative_data_rejection]
    if path not in GENERATED:
        # What is no concern of routing is the model's: it may refuse a value that fits here (an empty prompt), so
        # that a valid request need not be accepted. What does not fit here must be refused here.
        checks.append(positive_data_acceptance)
    run(own, method, path, mode, lambda case: case.call_and_validate(checks=checks))


@pytest.mark.parametrize("path", GENERATED)
def test_it_is_as_it_describes_itself_where_a_model_answers(own: Any, path: str) -> None:
    def check(case: Any) -> None:
        case.body["model"] = "weak"  # a name made up is a 404, which tells nothing of what comes after the decision
        case.call_and_validate(checks=CHECKS)

    run(own, "POST", path, GenerationMode.POSITIVE, check)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/chat/completions"), ("GET", "/models"), ("GET", "/models/{model}")]
)
def test_it_takes_and_gives_what_the_published_description_says(
    published: Any, method: str, path: str, mode: GenerationMode
) -> None:
    # Left out: status codes (the description lists 200 and 429 alone), and what the data should lead to (values of
    # fields that are the model's matter are passed on, valid or not).
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "weak"
        response = case.call_and_validate(
            checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
        )
        assert response.status_code == 200 or set(response.json()["error"]) == {"message", "type", "param", "code"}

    run(published, method, path, mode, check)
