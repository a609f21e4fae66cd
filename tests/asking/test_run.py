"""Whatever fails, a run ends, says why, and leaves what the next one needs."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from routellm_core.asking.calls import CallLimits, Calls, Outcome, run_all
from routellm_core.asking.labels import LabelRun
from routellm_core.asking.prompts import LabelModels, LabelPrompt
from routellm_core.asking.store import RecordFile
from routellm_core.backends.base import ModelSettings
from routellm_core.backends.chat import LiteLLMBackend
from routellm_core.errors import BackendError, ConfigError, OutputError
from routellm_core.testing.local_models import LocalModelServer

QUICK: dict[str, Any] = {"attempts": 2, "wait_initial": 0.0, "wait_max": 0.0}


def models(url: str, name: str) -> LabelModels:
    made = [ModelSettings(model=f"openai/{who}", api_base=url, api_key="wrong") for who in (name, f"{name}0", "judge")]
    return LabelModels(*made)


async def label(url: str, name: str, output: Path, count: int = 200, **limits: Any) -> tuple[Outcome, float]:
    prompts = [LabelPrompt(f"What is {n}?", f"prompts.jsonl, line {n + 1}") for n in range(count)]
    run = LabelRun(models(url, name), LiteLLMBackend(), output, limits=CallLimits(**{**QUICK, **limits}))
    began = time.monotonic()
    async with asyncio.timeout(60):
        outcome = await run.label(prompts)
    return outcome, time.monotonic() - began


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fail-401", "refuses every call"),
        ("fail-403", "refuses every call"),
        ("fail-404", "refuses every call"),
        ("fail-429", "10 failures in a row"),  # a rate limit for ever
        ("fail-402", "10 failures in a row"),
        ("fail-400", "10 failures in a row"),
        ("fail-500", "10 failures in a row"),
        ("garbage", "10 failures in a row"),
        ("empty", "10 failures in a row"),
        ("drop", "10 failures in a row"),
    ],
)
async def test_a_run_whose_every_call_fails_ends(tmp_path: Path, name: str, said: str) -> None:
    with LocalModelServer() as server:
        outcome, _ = await label(server.base_url, name, tmp_path / "l.jsonl")
        calls = len(server.requests)
    assert outcome.stopped is not None
    assert said in outcome.stopped
    assert not outcome.is_complete
    assert len(outcome.failures) <= 18  # ten, and those that ran beside the last one
    assert outcome.left == 200 - len(outcome.failures)
    assert calls <= 2 * 2 * (10 + 8)  # two models, two attempts, ten failures and what runs beside them
    assert not (tmp_path / "l.jsonl").exists()


async def test_a_dead_port_ends_the_run(tmp_path: Path) -> None:
    outcome, _ = await label(f"http://127.0.0.1:{free_port()}/v1", "strong", tmp_path / "l.jsonl")
    assert outcome.stopped is not None
    assert "10 failures in a row" in outcome.stopped


async def test_a_server_that_never_answers_ends_the_run(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)  # takes connections, and says nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        outcome, seconds = await label(url, "strong", tmp_path / "l.jsonl", call_seconds=0.5)
    assert outcome.stopped is not None
    assert "gave no answer within 0.5 seconds" in outcome.stopped
    assert seconds < 30


async def test_failures_between_successes_do_not_stop_a_run(tmp_path: Path) -> None:
    calls = Calls({}, LiteLLMBackend(), CallLimits())

    async def work(number: int) -> None:
        if number % 3:
            raise BackendError("moderated", model="m", status_code=403, retryable=False)

    items = [(str(number), number) for number in range(60)]
    limits = CallLimits(concurrency=1, failures_in_a_row=3)
    outcome = await run_all(items, work, calls=calls, limits=limits)
    assert (outcome.done, len(outcome.failures), outcome.left, outcome.stopped) == (20, 40, 0, None)
    outcome = await run_all(items, work, calls=calls, limits=CallLimits(concurrency=1, failures_in_a_row=2))
    assert (outcome.done, len(outcome.failures), outcome.left) == (1, 2, 57)


async def test_any_other_error_ends_the_run_as_itself(tmp_path: Path) -> None:
    calls = Calls({}, LiteLLMBackend(), CallLimits())
    cancelled = []

    async def work(number: int) -> None:
        if number == 3:
            raise KeyError("a mistake in the program")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(KeyError, match="a mistake"):
        await run_all([(str(n), n) for n in range(20)], work, calls=calls, limits=CallLimits(concurrency=4))
    assert sorted(cancelled) == [0, 1, 2]


async def test_a_call_that_took_too_long_is_not_tried_again() -> None:
    class Slow:
        attempts = 0

        async def acomplete(self, model: ModelSettings, parameters: Any) -> Any:
            self.attempts += 1
            await asyncio.sleep(0.06)
            raise BackendError("overloaded", model=model.model, status_code=503, retryable=True)

        def complete(self, model: ModelSettings, parameters: Any) -> Any:
            raise NotImplementedError

    backend = Slow()
    limits = CallLimits(attempts=50, wait_initial=0.0, wait_max=0.0, call_seconds=0.15)
    with pytest.raises(BackendError, match="overloaded"):
        await Calls({"m": ModelSettings(model="m")}, backend, limits).ask("m", [], {})
    assert backend.attempts == 3


async def test_nothing_is_begun_without_money() -> None:
    class Free:
        async def acomplete(self, model: ModelSettings, parameters: Any) -> Any:
            return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="x"))])

    limits = CallLimits(max_cost=0.0)
    calls = Calls({"m": ModelSettings(model="m")}, Free(), limits)  # type: ignore[arg-type]
    outcome = await run_all([("1", 1)], lambda _: pytest.fail("begun"), calls=calls, limits=limits)
    assert (outcome.left, outcome.stopped) == (1, "the most that may be spent is reached")


async def test_a_second_run_on_one_output_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "labelled.jsonl"
    with LocalModelServer() as server:
        first = asyncio.create_task(label(server.base_url, "slow-2", output, 1))
        async with asyncio.timeout(20):
            while not server.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(ConfigError, match=r"another run is writing to .*labelled.jsonl.*paid for twice"):
            await label(server.base_url, "slow-2", output, 1)
        assert len(server.requests) == 2
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        outcome, _ = await label(server.base_url, "echo", output.with_name("other.jsonl"), 1)
        assert not isinstance(outcome, BaseException)


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from routellm_core.asking.store import RecordFile\n"
        "with RecordFile(Path(sys.argv[1]), writer='x').locked():\n    print('locked', flush=True); time.sleep(60)"
    )
    path = tmp_path / "l.jsonl"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match="another run"), RecordFile(path, writer="x").locked():
            pass
        process.kill()
    with RecordFile(path, writer="x").locked():
        pass


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(local_models: LocalModelServer, small_disk: Path) -> None:
    output = small_disk / "labelled.jsonl"
    prompts = [LabelPrompt(f"{n} " + "long " * 8000, f"line {n}") for n in range(40)]
    run = LabelRun(models(local_models.base_url, "s"), LiteLLMBackend(), output, limits=CallLimits(**QUICK))
    with pytest.raises(OutputError, match="No space left"):
        asyncio.run(run.label(prompts))
    finished = [json.loads(line) for line in output.read_bytes().split(b"\n")[:-1]]
    assert 1 <= len(finished) < 40
    room = LabelRun(models(local_models.base_url, "s"), LiteLLMBackend(), output)
    assert len(room.missing(prompts)) == 40 - len(finished)


def test_unusable_limits_are_refused() -> None:
    for wrong in ({"concurrency": 0}, {"failures_in_a_row": 0}, {"call_seconds": 0.0}, {"requests_per_minute": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CallLimits(**wrong)  # type: ignore[arg-type]
