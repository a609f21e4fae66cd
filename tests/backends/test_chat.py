"""Chat completions as objects: directly, and through litellm."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from routellm_core import BackendError, Controller, ModelSettings, ResiliencePolicy
from routellm_core.backends.chat import ChatReading, LiteLLMBackend, ModelBackend
from routellm_core.backends.completions import ChatCompletion
from routellm_core.providers.litellm import import_litellm
from routellm_core.testing import FakeBackend
from routellm_core.testing.local_models import LocalModelServer

HELLO = [{"role": "user", "content": "Hello!"}]
WAYS = pytest.mark.parametrize("relay", [None, False], ids=["direct", "litellm"])
Start = Callable[..., str]


def controller(base: str, relay: bool | None = None, strong: str = "big", **settings: Any) -> Controller:
    models = [
        {"model": f"openai/{name}", "api_base": base, "api_key": "k", "relay": relay, **settings}
        for name in (strong, "small")
    ]
    return Controller(["random"], *models, resilience=ResiliencePolicy(attempts=1))


def test_the_first_call_of_a_compatible_server_waits_for_no_sdk(local_models: LocalModelServer) -> None:
    code = (
        "import sys, asyncio; from routellm_core import Controller; "
        f"c = Controller(['random'], 'openai/big', 'openai/small', api_base='{local_models.base_url}', api_key='k'); "
        "call = dict(model='strong', messages=[{'role': 'user', 'content': 'Hi'}]); "
        "print(c.completion(**call).choices[0].message.content); "
        "print(asyncio.run(c.acompletion(**call)).choices[0]['message']['content']); "
        "print(''.join(chunk.choices[0].delta.content or '' for chunk in c.completion(stream=True, **call))); "
        "print([name for name in ('litellm', 'openai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["big answers: Hi"] * 3 + ["[]"]
    assert done.stderr == ""


def test_answers_have_the_shape_of_openai_s_own() -> None:
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    "reasoning_content": "hm",
                },
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}},
    }
    found = ChatCompletion.model_validate(body)
    message = found.choices[0].message
    assert (message.tool_calls[0].function.name, message["tool_calls"][0]["function"]["arguments"]) == ("f", "{}")  # type: ignore[index,union-attr]
    assert (message.reasoning_content, message.refusal, message.get("nothing", 3)) == ("hm", None, 3)  # type: ignore[attr-defined]
    assert "refusal" not in message
    assert "content" in message
    with pytest.raises(KeyError):
        message["nothing"]
    assert found.usage.completion_tokens_details.reasoning_tokens == 1  # type: ignore[union-attr]
    assert found.model_dump() == body
    for copied in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), found.model_copy()):
        assert copied.model_dump() == body


@WAYS
def test_what_the_controller_returned_can_be_sent_back(local_models: LocalModelServer, relay: bool | None) -> None:
    client = controller(local_models.base_url, relay)
    tool = {"type": "function", "function": {"name": "days", "parameters": {"type": "object", "properties": {}}}}
    messages: list[Any] = [{"role": "user", "content": "How many days?"}]
    response = client.completion(model="strong", messages=messages, tools=[tool], tool_choice="required")
    messages.append(response.choices[0].message)
    call = response.choices[0].message.tool_calls[0]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "3"})
    for answer in (
        client.completion(model="router-random-0", messages=messages),
        asyncio.run(client.acompletion(model="router-random-0", messages=messages)),
    ):
        assert answer.routing.tier == "strong"
    sent = local_models.requests[-1]["messages"][1]
    assert (sent["role"], sent.get("content")) == ("assistant", None)
    assert sent["tool_calls"][0]["function"]["name"] == "days"
    assert not [name for name, value in sent.items() if value is None and name != "content"]
    assert client.decide(messages, threshold=0.0).tier == "strong"


@WAYS
def test_closing_a_stream_ends_the_model_s_work(upstream_models: LocalModelServer, relay: bool | None) -> None:
    client = controller(upstream_models.base_url, relay, strong="drip-0.05")
    text = [{"role": "user", "content": "word " * 400}]

    def abandoned(count: int) -> None:
        for _ in range(200):
            if upstream_models.abandoned >= count:
                return
            time.sleep(0.05)
        pytest.fail("the model went on generating")

    first = client.completion(model="strong", messages=text, stream=True)
    first.close()  # before it was read
    abandoned(1)
    second = client.completion(model="strong", messages=text, stream=True)
    next(second)
    second.close()
    abandoned(2)
    with client.completion(model="strong", messages=text, stream=True) as third:
        next(third)
    abandoned(3)

    async def leave() -> None:
        stream = await client.acompletion(model="strong", messages=text, stream=True)
        await stream.aclose()

    asyncio.run(leave())
    abandoned(4)


@pytest.fixture
def upstream_models() -> Iterator[LocalModelServer]:
    with LocalModelServer() as server:
        yield server


def test_the_decision_is_attached_to_a_copy(local_models: LocalModelServer) -> None:
    kept = []

    class Keeping(LiteLLMBackend):
        def complete(self, model: ModelSettings, parameters: Any) -> Any:
            kept.append(super().complete(model, parameters))
            return kept[-1]

    client = Controller(
        ["random"], "openai/big", "openai/small", api_base=local_models.base_url, api_key="k", backend=Keeping()
    )
    response = client.completion(model="strong", messages=HELLO)
    assert response.routing.model == "openai/big"
    assert not hasattr(kept[0], "routing")
    assert type(response) is type(kept[0])


@pytest.mark.slow
def test_a_callback_that_walks_the_response_meanwhile_never_fails(local_models: LocalModelServer) -> None:
    # litellm's thread serialises the response to log it, while the caller has it already.
    code = f"""
import litellm, threading
seen, failed = [], []
def walk(kwargs, response, start, end):
    try:
        for _ in range(200):
            response.model_dump(); list(vars(response)); list(response.__pydantic_extra__ or ())
        seen.append(response)
    except BaseException as error:
        failed.append(repr(error))
litellm.success_callback = [walk]
from routellm_core import Controller
c = Controller(['random'], 'openai/big', 'openai/small', api_base='{local_models.base_url}', api_key='k')
messages = [{{'role': 'user', 'content': 'Hi'}}]
answers = [c.completion(model='strong', messages=messages) for _ in range(10)]
import time
for _ in range(200):
    if len(seen) + len(failed) == 10: break
    time.sleep(0.05)
print(len(seen), failed, all(answer.routing.tier == 'strong' for answer in answers))
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == "10 [] True", done.stdout + done.stderr
        assert "panic" not in done.stderr


def test_a_callback_set_in_litellm_is_called_for_compatible_servers_too(
    local_models: LocalModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = threading.Event()
    litellm = import_litellm()
    monkeypatch.setattr(litellm, "success_callback", [lambda *_: called.set()])
    answer = controller(local_models.base_url).completion(model="strong", messages=HELLO)
    assert isinstance(answer, litellm.ModelResponse)
    assert called.wait(10)


def test_what_a_call_says_of_the_way_is_no_part_of_its_body(local_models: LocalModelServer) -> None:
    client = controller("http://127.0.0.1:9/v1", timeout=20)
    client.completion(
        model="strong",
        messages=HELLO,
        base_url=local_models.base_url,
        api_key="another",
        timeout=10,
        extra_headers={"X-Team": "a"},
        extra_body={"top_k": 3},
        organization=None,
    )
    received = local_models.received[-1]
    assert received.body == {"model": "big", "messages": HELLO, "top_k": 3}
    assert (received.headers["authorization"], received.headers["x-team"]) == ("Bearer another", "a")


def test_a_time_out_of_the_call_counts(local_models: LocalModelServer) -> None:
    client = controller(local_models.base_url, strong="slow-20")
    answer = client.completion(model="strong", messages=HELLO, timeout=0.2)
    assert "within 0.2 s" in answer.routing.details["fallback_error"]


@WAYS
def test_num_retries_is_the_number_of_further_attempts(upstream_models: LocalModelServer, relay: bool | None) -> None:
    policy = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0, fallback=False)
    settings = {"model": "openai/fail-503", "api_base": upstream_models.base_url, "api_key": "k", "relay": relay}

    def calls(settings: dict[str, Any], **options: Any) -> int:
        before = len(upstream_models.requests)
        client = Controller(["random"], settings, "openai/small", resilience=policy)
        with pytest.raises(BackendError):
            client.completion(model="strong", messages=HELLO, **options)
        return len(upstream_models.requests) - before

    assert calls(settings) == 1
    assert calls(settings, num_retries=2) == 3
    assert calls(settings, max_retries=1) == 2
    assert calls({**settings, "extra": {"num_retries": 3}}) == 4
    assert calls({**settings, "extra": {"num_retries": 3}}, num_retries=0) == 1
    assert "num_retries" not in upstream_models.requests[-1]


@pytest.mark.parametrize(
    ("extra", "call", "sent"),
    [
        (
            {"drop_params": True},
            {"logit_bias": {"1": 1}, "temperature": 0.5},
            {"temperature": 0.5, "logit_bias": {"1": 1}},
        ),
        ({"drop_params": True}, {"thinking": {"type": "disabled"}}, {}),
        ({"drop_params": True, "allowed_openai_params": ["thinking"]}, {"thinking": {}}, {"thinking": {}}),
        ({}, {"drop_params": True, "thinking": {"type": "disabled"}}, {}),
        ({"additional_drop_params": ["seed"]}, {"seed": 3, "user": "u"}, {"user": "u"}),
        ({}, {"additional_drop_params": ["seed"], "seed": 3, "user": "u"}, {"user": "u"}),
    ],
)
@WAYS
def test_litellm_s_ways_to_drop_parameters_are_honoured(
    local_models: LocalModelServer,
    relay: bool | None,
    extra: dict[str, Any],
    call: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    client = controller(local_models.base_url, relay, strong="gpt-4o", extra=extra)
    client.completion(model="strong", messages=HELLO, **call)
    body = local_models.requests[-1]
    assert {name: value for name, value in body.items() if name not in ("model", "messages", "extra_body")} == sent


@WAYS
def test_a_model_s_own_parameters(local_models: LocalModelServer, relay: bool | None) -> None:
    client = controller(
        local_models.base_url,
        relay,
        drop_params=["seed"],
        rename_params={"max_tokens": "max_completion_tokens"},
        drop_message_fields=["reasoning_content"],
    )
    history = [*HELLO, {"role": "assistant", "content": "a", "reasoning_content": "hm"}, *HELLO]
    client.completion(model="strong", messages=history, seed=1, max_tokens=50)
    body = local_models.requests[-1]
    assert (body["max_completion_tokens"], "seed" in body, "max_tokens" in body) == (50, False, False)
    assert body["messages"] == [*HELLO, {"role": "assistant", "content": "a"}, *HELLO]


SECRET = "a-key-that-nobody-may-see"


@WAYS
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_a_provider_quotes_is_in_no_error_nor_in_its_traceback(
    scripted: Start, relay: bool | None, stream: bool
) -> None:
    import traceback

    async def quotes(request: web.Request) -> web.Response:
        said = f"Incorrect API key provided: {request.headers['Authorization']} at http://10.0.0.7:8000/x?key=abcdef99"
        return web.json_response({"error": {"message": said, "type": "x", "param": None, "code": "y"}}, status=401)

    client = controller(scripted(quotes), relay, api_key=SECRET)
    for call in (
        lambda: client.completion(model="strong", messages=HELLO, stream=stream),
        lambda: asyncio.run(client.acompletion(model="strong", messages=HELLO, stream=stream)),
    ):
        with pytest.raises(BackendError, match="Incorrect API key provided: Bearer") as caught:
            call()
        shown = "".join(traceback.format_exception(caught.value))
        assert not [secret for secret in (SECRET, "10.0.0.7", "abcdef99") if secret in shown]


def test_what_any_object_says() -> None:
    reading = ChatReading()
    whole = FakeBackend().complete(ModelSettings(model="m"), {"messages": HELLO})
    chunks = list(FakeBackend().complete(ModelSettings(model="m"), {"messages": HELLO, "stream": True}))
    assert reading.emptiness(whole) is None
    assert [reading.is_content(chunk) for chunk in chunks[:2]] == [False, True]
    assert reading.emptiness([chunks[0], chunks[-1]]) == "empty"
    assert reading.emptiness("a shape of its own") is None
    assert reading.emptiness({"choices": [{"message": {"content": " \n"}, "finish_reason": "stop"}]}) == "empty"
    assert reading.emptiness({"choices": [{"message": {}, "finish_reason": "content_filter"}]}) == "filtered"


async def test_one_backend_serves_blocking_and_asynchronous_calls_at_once(local_models: LocalModelServer) -> None:
    model = ModelSettings(model="openai/echo", api_base=local_models.base_url, api_key="k")  # type: ignore[arg-type]
    backend = ModelBackend()
    asked = [{"messages": [{"role": "user", "content": f"number {number}"}]} for number in range(20)]
    answers = await asyncio.gather(
        *(backend.acomplete(model, parameters) for parameters in asked[:10]),
        *(asyncio.to_thread(backend.complete, model, parameters) for parameters in asked[10:]),
    )
    gc.collect()
    assert [answer.choices[0].message.content for answer in answers] == [f"number {number}" for number in range(20)]
    assert json.loads(answers[0].model_dump_json())["model"] == "echo"
