"""Server processes: pinned to a core, timed until their first answer, their memory read while they run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server.load import requests_for

_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Contestant:
    """A server to measure.

    Attributes:
        name: what the tables call it.
        model: the model name that clients send.
        command: starts it; ``{port}`` and ``{backend}`` (the base URL of the models) are filled in.
        environment: variables beside the present ones, filled in likewise.
        key: what clients authorise themselves with.
    """

    name: str
    model: str
    command: Sequence[str]
    environment: Mapping[str, str]
    key: str = "local"


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        contestant: what it is.
        port: on the loopback interface.
        start_seconds: from the start of its process to its first answer to a chat completion.
        pid: of its process.
    """

    contestant: Contestant
    port: int
    start_seconds: float
    pid: int

    def requests(self, *, stream: bool) -> Iterator[bytes]:
        """Yield chat completion requests without end."""
        return requests_for(self.port, self.contestant.model, stream=stream, key=self.contestant.key)

    def megabytes(self) -> float:
        """Return the resident memory of the process and its children."""
        return sum(_resident_bytes(pid) for pid in _family(self.pid)) / 1e6

    def cpu_seconds(self) -> float:
        """Return the processor time that the process and its children have taken."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_backend(core: int, *, model_seconds: float = 0.0, embedding_seconds: float = 0.0) -> Iterator[Running]:
    """Start the models that all servers stand before."""
    seconds = ["--model-seconds", str(model_seconds), "--embedding-seconds", str(embedding_seconds)]
    command = [sys.executable, "-m", "benchmarks.server.backend", "--port", "{port}", *seconds]
    with running(Contestant("the backend alone", "local", command, {}), core, "") as backend:
        yield backend


@contextmanager
def running(contestant: Contestant, core: int, backend: str) -> Iterator[Running]:
    """Start a server on one core and wait for its first answer.

    Args:
        contestant: the server.
        core: the only one it may use.
        backend: base URL of the models.

    Raises:
        SystemExit: it did not answer; its last words are shown.
    """
    port = free_port()
    command = [part.format(port=port, backend=backend) for part in contestant.command]
    variables = {key: value.format(port=port, backend=backend) for key, value in contestant.environment.items()}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if not _answers(process, port, contestant):
                output.seek(0)
                raise SystemExit(f"{contestant.name} did not answer: {output.read()[-3000:].decode(errors='replace')}")
            yield Running(contestant, port, time.perf_counter() - started, process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(process: subprocess.Popen[bytes], port: int, contestant: Contestant) -> bool:
    request = next(requests_for(port, contestant.model, key=contestant.key))
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(request)
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return True
        except OSError:
            pass
        time.sleep(0.01)
    return False


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
