"""How long it takes to score all 14,037 MMLU prompts with a router, the evaluation after it, and a cached run.

    python benchmarks/evals/scoring.py --data-dir ../shared/data/routellm_benchmarks/original

writes scoring.json beside this file and prints it. Every run loads the router anew; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from routellm_core.evals import EvaluationSettings, ScoreCache, load_benchmark, run_evaluation
from routellm_core.evals.data import resolve_data_dir
from routellm_core.routers import load_router


def measure(router_name: str, data_dir: Path) -> dict[str, float]:
    """Return seconds for each step of one run."""
    started = time.perf_counter()
    benchmark = load_benchmark("mmlu", data_dir=data_dir)
    loaded_data = time.perf_counter()
    router = load_router(router_name)
    loaded_router = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache = ScoreCache(Path(folder) / "scores.sqlite3")
        cache.scores(router, benchmark.prompts)
        scored = time.perf_counter()
        cache.scores(router, benchmark.prompts)
        cached = time.perf_counter()
        run_evaluation(benchmark, {router_name: router}, settings=EvaluationSettings(), cache=cache)
    return {
        "load the data": loaded_data - started,
        "load the router": loaded_router - loaded_data,
        "score all prompts": scored - loaded_router,
        "score again from the cache": cached - scored,
        "evaluate, 1000 resamples": time.perf_counter() - cached,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--router", default="mf")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("scoring.json"))
    arguments = parser.parse_args()
    data_dir = resolve_data_dir(arguments.data_dir)
    runs = [measure(arguments.router, data_dir) for _ in range(arguments.runs)]
    record = {
        "router": arguments.router,
        "fingerprint": load_router(arguments.router).fingerprint,
        "prompts": 14_037,
        "median_seconds": {step: round(statistics.median(run[step] for run in runs), 3) for step in runs[0]},
        "runs": arguments.runs,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": "python benchmarks/evals/scoring.py",
    }
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
