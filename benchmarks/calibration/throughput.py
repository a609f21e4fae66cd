"""Prompts per second of `routellm calibrate --prompts` against scoring one at a time, and memory by number of prompts.

    python benchmarks/calibration/throughput.py --shared ../shared --json benchmarks/results/calibration_throughput.json

Prompts are MMLU's questions, numbered so that no two are equal. Each measurement runs in a process of its own, so that
peak memory is its own. The batched runs include reading the file, the costs per prompt and, where named, the score
cache; the single runs are calls of the router alone.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mf": ("mf", {}),
    "mf minilm": ("mf", {"checkpoint_path": "minilm", "embedder": {"name": "minilm", "cache": False}}),
    # Costs next to nothing itself, so that reading and keeping are what is measured.
    "random": ("random", {"by": "prompt"}),
}


def write_prompts(shared: Path, count: int, destination: Path) -> None:
    """Write ``count`` different prompts, one JSON object a line."""
    import pyarrow.parquet as parquet

    file = shared / "data" / "routellm_benchmarks" / "mmlu.parquet"
    questions = itertools.cycle(parquet.read_table(file, columns=["prompt"]).column("prompt").to_pylist())
    with destination.open("w") as out:
        for number, question in zip(range(count), questions, strict=False):
            out.write(json.dumps({"prompt": f"{question} ({number})"}) + "\n")


def peak_megabytes() -> float:
    """Return this process's peak memory (getrusage would count the parent's, from before exec)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) / 1024


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in this process."""
    from routellm_core import load_router
    from routellm_core.calibration import PromptSource, TokenPrices, score_traffic
    from routellm_core.pricing import Price
    from routellm_core.rows.prompts import read_conversations
    from routellm_core.rows.sources import RowSource
    from routellm_core.score_cache import ScoreCache

    router = load_router(*ROUTERS[arguments.router])
    router.score(["warm up"])
    before = peak_megabytes()
    started = time.perf_counter()
    if arguments.mode == "single":
        scored = arguments.count
        for prompt in itertools.islice(read_conversations(arguments.file), scored):
            router.score([str(prompt)])
    else:
        cache = ScoreCache(arguments.file.with_name("scores.sqlite3")) if arguments.mode == "cached" else None
        prices = TokenPrices(Price(1e-5, 3e-5), Price(6e-7, 6e-7), 300)
        source = PromptSource(RowSource.parse(arguments.file))
        traffic = score_traffic(router, source, prices=prices, cache=cache)
        scored = len(traffic.scores)
    seconds = time.perf_counter() - started
    peak = peak_megabytes()
    return {
        "prompts": scored,
        "prompts_per_second": round(scored / seconds, 1),
        "peak_mb": round(peak),
        "grown_mb": round(peak - before),
    }


def in_own_process(*options: str) -> dict[str, Any]:
    """Run :func:`measure` in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--measure", *options], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[20_000, 200_000], help="sizes for --router mf")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--router", default="mf")
    parser.add_argument("--mode", choices=["single", "batched", "cached"], default="batched")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.prompts:
            write_prompts(arguments.shared, count, Path(folder) / f"{count}.jsonl")
        small, *larger = (str(Path(folder) / f"{count}.jsonl") for count in arguments.prompts)
        minilm = Path(folder) / "minilm.jsonl"
        write_prompts(arguments.shared, 512, minilm)
        plan = [("mf", "single", small), ("mf", "batched", small), ("mf", "cached", small), ("mf", "resumed", small)]
        plan += [("mf", "batched", file) for file in larger]
        million = Path(folder) / "million.jsonl"
        write_prompts(arguments.shared, 1_000_000, million)
        plan += [("random", "batched", small), ("random", "batched", str(million))]
        plan += [("mf minilm", "single", str(minilm)), ("mf minilm", "batched", str(minilm))]
        for router, label, file in plan:
            mode = "cached" if label == "resumed" else label
            count = "100" if "minilm" in router else "2000"
            outcome = in_own_process("--router", router, "--mode", mode, "--file", file, "--count", count)
            rows.append({"router": router, "mode": label, **outcome})
            print(rows[-1], flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.json:
        summary = {"date": datetime.date.today().isoformat(), "machine": machine, "rows": rows}
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
