from __future__ import annotations

import subprocess
from collections.abc import Callable

from routellm_core.testing.local_models import LocalModelServer

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MODELS = ["--strong-model", "openai/big", "--weak-model", "openai/small"]
KEY = {"OPENAI_API_KEY": "local"}


def test_one_message_is_answered_with_its_decision(routellm: Run, local_models: LocalModelServer) -> None:
    for extra in ([], ["--no-stream"]):
        done = routellm(
            "chat", "Hello you", *MODELS, "--api-base", local_models.base_url, "-t", "0", *extra, environment=KEY
        )
        assert done.returncode == 0, done.stderr
        assert "[strong: openai/big] score" in done.stdout
        assert "big answers: Hello you" in done.stdout


def test_a_conversation_keeps_its_history_and_survives_an_error(routellm: Run, local_models: LocalModelServer) -> None:
    before = len(local_models.requests)
    lines = "first\nsecond\n/reset\nthird\n/quit\n"
    done = routellm("chat", *MODELS, "--api-base", local_models.base_url, "--system", "S", stdin=lines, environment=KEY)
    assert done.returncode == 0, done.stderr
    sizes = [len(request["messages"]) for request in local_models.requests[before:]]
    assert sizes == [2, 4, 2]
    failing = ["--strong-model", "openai/fail-400", "--weak-model", "openai/fail-400"]
    done = routellm("chat", *failing, "--api-base", local_models.base_url, stdin="one\ntwo\n", environment=KEY)
    assert done.returncode == 0
    assert done.stdout.count("status 400") == 2


def test_without_a_key_the_error_says_what_to_set(routellm: Run, local_models: LocalModelServer) -> None:
    done = routellm("chat", "Hello", *MODELS, "--api-base", local_models.base_url)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_what_each_router_needs(routellm: Run) -> None:
    done = routellm("doctor")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "litellm" in text
    for router in ("random", "mf", "sw_ranking", "bert", "causal_llm"):
        assert router in text
    assert "broken" not in text
