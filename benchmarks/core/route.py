"""Cold start, throughput and memory of ``routellm route`` on real prompts.

    python -m benchmarks.core.route --json benchmarks/results/route.json

The prompts are a sample of the training pool's, from the shared data (``ROUTELLM_SHARED``, by default ``../shared``).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import write_report

SIZES = (1, 1_000, 10_000)


def write_real_prompts(file: Path, count: int) -> None:
    import pandas as pd

    shared = Path(os.environ.get("ROUTELLM_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    pool = pd.read_parquet(shared / "pool_train" / "prompts.parquet", columns=["prompt"])["prompt"]
    rows = pool.sample(n=count, random_state=0)
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in rows))


def run(command: list[str]) -> tuple[float, int]:
    """Return wall seconds and the peak resident memory of one process, in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    routellm = str(Path(sys.executable).with_name("routellm"))
    rows: list[dict[str, Any]] = []
    imports = [run([sys.executable, "-c", "import routellm_core"])[0] for _ in range(arguments.runs)]
    bare = [run([sys.executable, "-c", "pass"])[0] for _ in range(arguments.runs)]
    rows.append(
        {
            "what": "import routellm_core, beyond a bare interpreter",
            "seconds": statistics.median(imports) - statistics.median(bare),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        for size in SIZES:
            # In a process of its own: a child's peak memory counts what its parent held when it was started.
            writer = multiprocessing.get_context("spawn").Process(target=write_real_prompts, args=(file, size))
            writer.start()
            writer.join()
            measured = [run([routellm, "route", "--file", str(file), "--json"]) for _ in range(arguments.runs)]
            seconds = statistics.median(second for second, _ in measured)
            peak = statistics.median(memory for _, memory in measured)
            rows.append(
                {
                    "what": f"routellm route, {size:,} prompts",
                    "seconds": seconds,
                    "prompts per second": size / seconds,
                    "peak MB": peak / 1e6,
                }
            )
    write_report("routellm route", rows, arguments.json)


if __name__ == "__main__":
    main()
