r"""Requests a second through our server, beside the backend alone, a bare relay, RouteLLM's server and litellm's proxy.

    python -m benchmarks.server.throughput --json benchmarks/results/server_throughput.json \
        --reference-path ../RouteLLM --reference-python ../reference-venv/bin/python --reference-checkpoint mf_ckpt \
        --litellm ../litellm-venv/bin/litellm

All of them stand before the same backend, which answers at once, and all run in one go: every round measures each
server at each setting, and the figures are medians of the rounds. Each server has one core, the load generator and the
backend another. Every prompt is new. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.report import write_report
from benchmarks.server.contestants import add_reference_options, bare_relay, litellm_proxy, ours, routellm
from benchmarks.server.load import Sample, run_load
from benchmarks.server.processes import Contestant, Running, running, running_backend

CLIENTS = (1, 16, 64)
MODES = {"plain": False, "streamed": True}
_TARGETS = {"RouteLLM": 8.0, "litellm proxy": 12.0, "bare relay": 0.5}
_MOST_MEGABYTES, _MOST_START_SECONDS, _MOST_ADDED_MS = 250.0, 3.0, 3.0

Samples = dict[tuple[str, str, int], list[Sample]]


def contestants(arguments: argparse.Namespace, folder: Path) -> list[Contestant]:
    found = [bare_relay(), ours()]
    if arguments.reference_path:
        found.append(routellm(arguments, folder))
    if arguments.litellm:
        found.append(litellm_proxy(arguments, folder))
    return found


def measure(servers: Sequence[Running], rounds: int, seconds: float) -> Samples:
    samples: Samples = defaultdict(list)
    for _ in range(rounds):
        for mode, stream in MODES.items():
            for clients in CLIENTS:
                for server in servers:
                    requests = [server.requests(stream=stream)]
                    sample = run_load(server.port, requests, clients=clients, seconds=seconds)
                    samples[server.contestant.name, mode, clients].append(sample)
    return samples


def load_rows(samples: Samples) -> list[dict[str, Any]]:
    rows = []
    for (name, mode, clients), runs in samples.items():
        rate = _rate(runs)
        rows.append(
            {
                "server": name,
                "answers": mode,
                "clients": clients,
                "requests/s": rate,
                "p50 ms": _milliseconds(runs, 0.5),
                "p99 ms": _milliseconds(runs, 0.99),
                "p50 ms to first byte": _milliseconds(runs, 0.5, first=True),
                "ours is, times": _times(samples, name, mode, clients),
            }
        )
    return rows


def _rate(runs: Sequence[Sample]) -> float:
    return statistics.median(run.rate for run in runs)


def _milliseconds(runs: Sequence[Sample], share: float, *, first: bool = False) -> float | None:
    """Return the median of the runs that saw an answer; None where none came within the time."""
    values = [run.milliseconds(share, first=first) for run in runs if run.latencies]
    return statistics.median(values) if values else None


def _times(samples: Samples, name: str, mode: str, clients: int) -> float:
    """Return the median over the rounds of our rate by the other's: what disturbs a round disturbs both."""
    pairs = zip(samples["ours", mode, clients], samples[name, mode, clients], strict=True)
    return statistics.median(mine.rate / max(other.rate, 0.1) for mine, other in pairs)


def footprint_rows(
    servers: Sequence[Running], at_start: dict[str, float], memory_requests: int
) -> list[dict[str, Any]]:
    rows = []
    for server in servers:
        name = server.contestant.name
        row = {"server": name, "start, s": server.start_seconds, "MB at start": at_start[name]}
        row["MB after the load"] = server.megabytes()
        if name == "ours":
            row[f"MB after {memory_requests:,} more"] = _after_more(server, memory_requests)
        rows.append(row)
    return rows


def _after_more(server: Running, count: int) -> float:
    sent = 0.0
    while sent < count:
        requests = [server.requests(stream=sent > 0.75 * count)]
        sent += 3.0 * run_load(server.port, requests, clients=64, seconds=3.0).rate
    return server.megabytes()


def target_rows(samples: Samples, footprint: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was to be reached beside what was; each ratio is the least over all settings."""
    names = {name for name, _, _ in samples}
    rows = []
    for name, wanted in _TARGETS.items():
        if name in names:
            least = min(_times(samples, name, mode, clients) for mode in MODES for clients in CLIENTS)
            rows.append(_target(f"rate, times {name}'s, least of all settings", least, wanted, least >= wanted))
    for mode in MODES:
        p50 = {
            name: statistics.median(run.milliseconds(0.5, first=True) for run in samples[name, mode, 1])
            for name in ("ours", "the backend alone")
        }
        added = p50["ours"] - p50["the backend alone"]
        what = f"added p50 to the first byte at one client, {mode}, ms"
        rows.append(_target(what, added, _MOST_ADDED_MS, added <= _MOST_ADDED_MS))
    mine = next(row for row in footprint if row["server"] == "ours")
    start, most = mine["start, s"], max(value for key, value in mine.items() if key.startswith("MB"))
    rows.append(_target("start to first answer, s", start, _MOST_START_SECONDS, start <= _MOST_START_SECONDS))
    rows.append(_target("memory, MB, the most", most, _MOST_MEGABYTES, most <= _MOST_MEGABYTES))
    return rows


def _target(what: str, measured: float, wanted: float, reached: bool) -> dict[str, Any]:
    return {"what": what, "measured": measured, "wanted": wanted, "reached": "yes" if reached else "NO"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--memory-requests", type=int, default=20_000)
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    parser.add_argument("--json", type=Path, help="the rates; start and memory go beside it, into …_footprint.json")
    add_reference_options(parser)
    arguments = parser.parse_args()

    os.sched_setaffinity(0, {arguments.load_core})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = stack.enter_context(running_backend(arguments.load_core))
        base_url = f"http://127.0.0.1:{backend.port}/v1"
        servers = [
            stack.enter_context(running(contestant, arguments.server_core, base_url))
            for contestant in contestants(arguments, folder)
        ]
        at_start = {server.contestant.name: server.megabytes() for server in servers}
        samples = measure([backend, *servers], arguments.rounds, arguments.seconds)
        footprint = footprint_rows(servers, at_start, arguments.memory_requests)
    write_report("server throughput", load_rows(samples), arguments.json)
    beside = arguments.json.with_stem(f"{arguments.json.stem}_footprint") if arguments.json else None
    write_report("server start and memory", footprint, beside)
    write_report("targets", target_rows(samples, footprint), None)


if __name__ == "__main__":
    main()
