"""The server as a user starts it: processes, signals, several workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from routellm_core.testing.local_models import LocalModelServer

MODULE = ["-m", "routellm_core.openai_server"]
COMMAND = ["-c", "from routellm_core.cli import main; main()", "serve"]


class ServerProcess:
    """A server process; ``url`` is known once it has said so, ``log`` is all that it wrote."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line

    @property
    def url(self) -> str:
        self.until(lambda: bool(re.search(r"http://[^/]+:\d+", self.log)))
        found = re.search(r"http://[^/]+:\d+", self.log)
        assert found
        return found[0].replace("0.0.0.0", "127.0.0.1")

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(6000):
            if condition():
                return
            assert self.process.poll() is None, self.log
            time.sleep(0.01)
        pytest.fail(f"it never came: {self.log}")

    def ready(self) -> ServerProcess:
        def answers() -> bool:
            try:
                return httpx.get(f"{self.url}/ready", timeout=10).status_code == 200
            except httpx.TransportError:
                return False

        self.until(answers)
        return self

    def chat(self, model: str = "auto", **headers: str) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        """The lines about requests, where they are JSON."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=60)
        return status


Start = Callable[..., ServerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def started(*arguments: str, **environment: str) -> ServerProcess:
            server = ServerProcess(list(arguments), environment)
            stack.callback(lambda: server.process.poll() is None and server.stop(signal.SIGKILL))
            return server

        yield started


def flags(models: LocalModelServer) -> list[str]:
    return [
        "--strong-model",
        "openai/big",
        "--weak-model",
        "openai/small",
        "--base-url",
        models.base_url,
        "--api-key",
        "secret-upstream-key",
        "--port",
        "0",
    ]


def test_the_reference_s_command_with_all_its_flags(
    start: Start, local_models: LocalModelServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mf:\n  checkpoint_path: default\n")
    options = ["--routers", "mf", "random", "--config", str(config), "--workers", "1", "--verbose"]
    server = start(*MODULE, *options, *flags(local_models)).ready()
    answer = server.chat("router-mf-0.0")
    assert answer.json()["choices"][0]["message"]["content"] == "big answers: Hello!"
    assert server.chat("router-random-1").headers["x-routellm-model"] == "openai/small"
    models = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert [model["id"] for model in models][:3] == ["auto", "router-mf-0.116", "router-random-0.116"]
    assert httpx.get(f"{server.url}/health").json() == {"status": "online"}
    assert httpx.get(f"{server.url}/ready").json() == {"status": "ready", "routers": ["mf", "random"]}
    assert server.stop() in (0, -signal.SIGTERM)
    assert "routed to strong" in server.log
    assert "method=POST path=/v1/chat/completions status=200" in server.log
    assert "Serving mf, random at" in server.log
    assert "secret-upstream-key" not in server.log
    assert "Hello!" not in server.log
    assert "Traceback" not in server.log


def test_the_command_routellm_serve(start: Start, local_models: LocalModelServer) -> None:
    server = start(*COMMAND, "--routers", "random", *flags(local_models)).ready()
    assert server.chat().status_code == 200
    assert server.url.startswith("http://127.0.0.1:")
    assert server.stop(signal.SIGINT) in (0, 130)
    assert "Traceback" not in server.log
    assert "routed" not in server.log


def test_a_server_open_to_other_machines_without_a_key_is_warned_of(
    start: Start, local_models: LocalModelServer
) -> None:
    options = ["--routers", "random", "--host", "0.0.0.0", *flags(local_models)]
    server = start(*COMMAND, *options)
    server.until(lambda: "asks for no key" in server.log)
    keyed = start(*COMMAND, *options, ROUTELLM_SERVER_API_KEYS="k1").ready()
    assert keyed.chat().status_code == 401
    assert keyed.chat(Authorization="Bearer k1").status_code == 200
    assert "asks for no key" not in keyed.log


def test_a_port_that_is_taken_ends_it_with_a_clear_message(local_models: LocalModelServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, *MODULE, "--routers", "random", *flags(local_models)[:-1], str(port)],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--routers", "nosuch"], "nosuch"),
        (["--routers", "random", "--config", "missing.yaml"], "does not exist"),
        (["--routers", "random", "--api-keys-file", "missing"], "cannot be read"),
        (["--routers", "random", "--port", "70000"], "port"),
        (["--routers", "random", "--threshold", "2"], "[0, 1]"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_wrong_usage_ends_it_with_a_clear_message(options: list[str], said: str, workers: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *MODULE, "--port", "0", "--workers", workers, *options],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "aiohttp", "prometheus_client", "limits"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['routellm', 'serve']; "
        "from routellm_core.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"needs the package '{package}'" in done.stderr
    assert "pip install 'routellm-core[serve]'" in done.stderr


def configured(file: Path, models: LocalModelServer, **server: Any) -> None:
    import yaml

    endpoint = {"api_base": models.base_url, "api_key": "k"}
    settings = {
        "models": {"strong": {"model": "openai/big", **endpoint}, "weak": {"model": "openai/small", **endpoint}},
        "router": server.pop("router", "random"),
        "server": {"port": 0, **server},
    }
    file.write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_takes_new_settings_or_keeps_the_old_ones(
    start: Start, local_models: LocalModelServer, tmp_path: Path, workers: str
) -> None:
    config = tmp_path / "config.yaml"
    configured(config, local_models, api_keys=["old"])
    server = start(*COMMAND, "--config", str(config), "--workers", workers, TMPDIR=str(tmp_path)).ready()
    each = int(workers)

    def statuses(key: str) -> set[int]:
        return {server.chat(Authorization=f"Bearer {key}").status_code for _ in range(4 * each)}

    server.until(lambda: server.chat(Authorization="Bearer old").status_code == 200)
    config.write_text("server: {api_keys: [new], nonsense: true}")
    # A worker that is still starting would not survive the signal, so that all of them are known to answer first.
    server.until(lambda: processes(server, tmp_path) == each)
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: server.log.count("the settings were not reloaded") == each)
    assert "nonsense" in server.log
    assert statuses("old") == {200}
    configured(config, local_models, api_keys=["new"], router="mf")
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: server.log.count("settings reloaded") == each)
    assert statuses("old") == {401}
    assert statuses("new") == {200}
    assert server.chat(Authorization="Bearer new").headers["x-routellm-router"] == "mf"
    assert server.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log


def processes(server: ServerProcess, temporary: Path) -> int:
    """How many processes have answered a request, from the workers' shared metrics where there are several."""
    folder = next(iter(temporary.glob("routellm-metrics-*")), None)
    if folder is None:
        return 1
    server.chat(Authorization="Bearer old")
    return len(list(folder.glob("counter_*.db")))


def test_several_workers_share_port_metrics_and_end(
    start: Start, local_models: LocalModelServer, tmp_path: Path
) -> None:
    server = start(
        *COMMAND, "--routers", "random", "--workers", "2", *flags(local_models), TMPDIR=str(tmp_path)
    ).ready()
    folder = next(tmp_path.glob("routellm-metrics-*"))
    sent = 0

    def both_have_answered() -> bool:
        nonlocal sent
        assert server.chat("weak").status_code == 200
        sent += 1
        return len(list(folder.glob("counter_*.db"))) == 2

    server.until(both_have_answered)
    text = httpx.get(f"{server.url}/metrics").text
    counted = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "routellm_requests_total" and sample.labels["status"] == "200"
    ]
    assert sum(counted) == sent
    assert "pid=" not in text
    assert server.stop() == 0
    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        server.chat()


def test_a_signal_to_stop_lets_a_stream_finish(start: Start) -> None:
    with LocalModelServer() as models:
        arguments = flags(models)
        arguments[3] = "openai/hold"
        server = start(*COMMAND, "--routers", "random", *arguments).ready()
        body = {"model": "weak", "messages": [{"role": "user", "content": "one two three"}], "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            server.process.send_signal(signal.SIGTERM)

            def no_longer_listens() -> bool:
                try:
                    httpx.get(f"{server.url}/health")
                except httpx.TransportError:
                    return True
                return False

            server.until(no_longer_listens)
            models.release()
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.log


def test_a_stream_that_outlasts_the_end_is_told_of_it(start: Start, tmp_path: Path) -> None:
    with LocalModelServer() as models:
        config = tmp_path / "config.yaml"
        configured(config, models, shutdown_seconds=1)
        server = start(*COMMAND, "--config", str(config), "--weak-model", "openai/hold").ready()
        body = {"model": "weak", "messages": [{"role": "user", "content": "one two three"}]}
        plain: list[httpx.Response] = []

        def ask() -> None:
            plain.append(httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        with httpx.stream(
            "POST", f"{server.url}/v1/chat/completions", json={**body, "stream": True}, timeout=60
        ) as held:
            lines = held.iter_lines()
            assert next(lines).startswith("data: ")
            server.until(lambda: models.holding == 2)
            server.process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        asking.join(timeout=60)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert (plain[0].status_code, plain[0].json()["error"]["code"]) == (503, "shutting_down")
        assert server.process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.log


def test_each_request_has_a_line_with_its_id(start: Start, local_models: LocalModelServer, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    key = {"key": "k1", "name": "alice"}
    configured(config, local_models, request_log="json", api_keys=[key])
    server = start(*COMMAND, "--config", str(config)).ready()
    key = {"Authorization": "Bearer k1"}
    answers = [
        server.chat("router-random-0", **key, **{"X-Request-Id": "given.by-the:client/1"}),
        server.chat("nobody", **key),
        server.chat(),
        server.chat("weak", **key, **{"X-Request-Id": 'two words, "quoted"'}),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[0] == "given.by-the:client/1"
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids[1:])
    server.until(lambda: len(server.lines()) == 4)
    lines = {line["request_id"]: line for line in server.lines()}
    first, missing, refused, _ = (lines[each] for each in ids)
    told = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "key": "alice", "tier": "strong"}
    assert told.items() <= first.items()
    assert {"model", "router", "score", "threshold", "input_tokens", "output_tokens", "dollars"} <= first.keys()
    assert first["total_ms"] >= first["routing_ms"] >= 0
    assert first["time"].endswith("Z")
    assert (missing["status"], missing["key"]) == (404, "alice")
    assert "nobody" in missing["error"]
    assert (refused["status"], refused.get("key")) == (401, None)
    assert "Hello!" not in server.log
    assert "k1" not in server.log


@pytest.mark.parametrize("form", ["text", "off"])
def test_lines_are_text_or_none_and_hold_prompts_where_that_is_wanted(
    start: Start, local_models: LocalModelServer, tmp_path: Path, form: str
) -> None:
    config = tmp_path / "config.yaml"
    configured(config, local_models, request_log=form, log_prompts=True)
    server = start(*COMMAND, "--config", str(config)).ready()
    assert server.chat("weak").status_code == 200
    if form == "text":
        server.until(lambda: "status=200 tier=weak model=openai/small" in server.log)
        assert "Hello!" in server.log
    else:
        assert server.stop() in (0, -signal.SIGTERM)
        assert "request_id" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_with_the_terminal_that_it_was_started_from(local_models: LocalModelServer, workers: str) -> None:
    import fcntl
    import pty
    import termios

    ours, its = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *COMMAND, "--routers", "random", "--workers", workers, *flags(local_models)],
        stdin=its,
        stdout=its,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_terminal,
        env={**os.environ, "COLUMNS": "200"},
    )
    os.close(its)
    assert process.stderr is not None
    try:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://127[^/ ]+", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            assert client.get(f"{url}/ready", timeout=60).status_code == 200
        os.close(ours)
        process.wait(timeout=60)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health", timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=60)
