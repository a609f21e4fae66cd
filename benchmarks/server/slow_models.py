r"""64 clients, a model that takes 300 ms, and a router that needs an embedding call of 100 ms first.

    python -m benchmarks.server.slow_models --checkpoint mf_ckpt --json benchmarks/results/server_slow_models.json \
        --reference-path ../RouteLLM --reference-python ../reference-venv/bin/python

``--checkpoint`` is a folder of ``mf`` in RouteLLM's layout (1536 dimensions), such as a download of
``routellm/mf_gpt4_augmented``; both servers load it. The yardstick is a client that makes both calls to the backend
itself, one after the other: no server that embeds every prompt can be faster. Every prompt is new.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.report import write_report
from benchmarks.server.contestants import add_reference_options, ours_with_embedding_calls, routellm
from benchmarks.server.load import Sample, requests_for, run_load
from benchmarks.server.processes import Running, running, running_backend

CLIENTS = 64
MODEL_SECONDS, EMBEDDING_SECONDS = 0.3, 0.1
_BOTH, _MODEL = "the backend alone, both calls", "the backend alone, the model's call"


def measure(backend: Running, servers: list[Running], rounds: int, seconds: float) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = defaultdict(list)
    for _ in range(rounds):
        embeddings = requests_for(backend.port, "text-embedding-3-small", operation="embeddings")
        both = [embeddings, backend.requests(stream=False)]
        samples[_BOTH].append(run_load(backend.port, both, clients=CLIENTS, seconds=seconds))
        alone = [backend.requests(stream=False)]
        samples[_MODEL].append(run_load(backend.port, alone, clients=CLIENTS, seconds=seconds))
        for server in servers:
            requests = [server.requests(stream=False)]
            samples[server.contestant.name].append(
                run_load(server.port, requests, clients=CLIENTS, seconds=_longer(server, seconds))
            )
    return samples


def _longer(server: Running, seconds: float) -> float:
    # A client of RouteLLM's server waits for up to 15 s here.
    return max(seconds, 30.0) if server.contestant.name == "RouteLLM" else seconds


def rows_of(samples: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    rows = []
    for name, runs in samples.items():
        shares = [run.rate / whole.rate for run, whole in zip(runs, samples[_BOTH], strict=True)]
        rows.append(
            {
                "server": name,
                "requests/s": statistics.median(run.rate for run in runs),
                "p50 ms": statistics.median(run.milliseconds(0.5) for run in runs),
                "p99 ms": statistics.median(run.milliseconds(0.99) for run in runs),
                "share of both calls' rate": statistics.median(shares),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="of mf, in RouteLLM's layout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    parser.add_argument("--json", type=Path)
    add_reference_options(parser)
    arguments = parser.parse_args()
    arguments.reference_checkpoint = arguments.reference_checkpoint or arguments.checkpoint

    os.sched_setaffinity(0, {arguments.load_core})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = stack.enter_context(
            running_backend(arguments.load_core, model_seconds=MODEL_SECONDS, embedding_seconds=EMBEDDING_SECONDS)
        )
        contestants = [ours_with_embedding_calls(arguments.checkpoint, folder)]
        if arguments.reference_path:
            contestants.append(routellm(arguments, folder))
        base_url = f"http://127.0.0.1:{backend.port}/v1"
        servers = [stack.enter_context(running(each, arguments.server_core, base_url)) for each in contestants]
        samples = measure(backend, servers, arguments.rounds, arguments.seconds)
    write_report("slow models", rows_of(samples), arguments.json)


if __name__ == "__main__":
    main()
