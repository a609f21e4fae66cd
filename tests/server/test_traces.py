"""OpenTelemetry's own middleware makes a span of each request, and the decision is in it."""

from __future__ import annotations

import subprocess
import sys

from routellm_core.testing.local_models import LocalModelServer

PROGRAM = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
if "untold" not in sys.argv:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

from fastapi.testclient import TestClient
from routellm_core.config import RouteLLMConfig, build_controller
from routellm_core.server.app import create_app

model = {"api_base": sys.argv[1], "api_key": "k"}
models = {"strong": {"model": "openai/big", **model}, "weak": {"model": "openai/small", **model}}
config = RouteLLMConfig.model_validate({"models": models})
with TestClient(create_app(build_controller(config, routers=["random"]), config.server)) as client:
    body = {"model": "weak", "messages": [{"role": "user", "content": "my secret prompt"}]}
    for stream in (False, True):
        answer = client.post("/v1/chat/completions", json={**body, "stream": stream}, headers={
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "r1"})
        assert answer.status_code == 200
print(json.dumps([[f"{s.context.trace_id:032x}", s.name, dict(s.attributes)] for s in exporter.get_finished_spans()]))
"""


def spans(models: LocalModelServer, *arguments: str) -> list[tuple[str, str, dict[str, object]]]:
    import json

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, models.base_url, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: list[tuple[str, str, dict[str, object]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_one_span_each_within_the_client_s_trace(local_models: LocalModelServer) -> None:
    found = spans(local_models)
    assert len(found) == 2
    for trace, name, attributes in found:
        assert trace == "0af7651916cd43dd8448eb211c80319c"
        assert "POST" in name
        assert attributes["routellm.model"] == "openai/small"
        assert attributes["routellm.request_id"] == "r1"
        assert attributes["routellm.output_tokens"]
        assert "secret" not in str(attributes)


def test_none_where_nobody_wants_them(local_models: LocalModelServer) -> None:
    assert spans(local_models, "untold") == []
