"""``sw_ranking`` against the reference's algorithm: time a prompt, memory, start-up, and the effect of compact storage.

    python -m benchmarks.routers.sw_ranking --json benchmarks/results/sw_ranking.json

Each measurement runs in a process of its own, so that peak memory is its own; the reference is timed before and after
ours. Embedding the prompt is left out on both sides. Battles are synthetic, of the published data's make-up: 55,000
between 64 models of uneven popularity, and beyond those only between the strong and the weak model (the judge's).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DIMENSION, MODELS, TOPICS, ARENA_BATTLES = 1536, 64, 200, 55_000
NAMES = tuple(f"model-{number:02d}" for number in range(MODELS))
SHOWN = {
    "battles": "battles",
    "storage": "storage",
    "reference ms": "ref. ms",
    "ms at 1": "ms at 1",
    "ms at 128": "at 128",
    "× at 1": "× at 1",
    "× at 128": "at 128",
    "start s": "start s",
    "embeddings MB": "MB",
    "max |Δ| to reference": "max |Δ|",
}
"""Columns of the printed table, which fits 100 characters; the JSON has all."""
SMALL = 2000
STRONG, WEAK = 3, 40
BATCHES = {1: 30, 8: 9, 128: 5}


def topics_of(count: int, seed: int) -> Any:
    """Return each prompt's topic, shape (count,)."""
    return np.random.default_rng(100 + seed).integers(0, TOPICS, count)


def make_battles(count: int, seed: int = 3) -> Any:
    """Return a battle table: strength falls with the model's number and varies by topic; a fifth are ties."""
    from routellm_core.routers.sw_ranking.battles import BattleTable

    rng = np.random.default_rng(7)
    popularity = 1 / (5 + rng.permutation(MODELS))
    model_a = rng.choice(MODELS, count, p=popularity / popularity.sum())
    model_b = rng.choice(MODELS, count, p=popularity / popularity.sum())
    model_b = np.where(model_a == model_b, (model_b + 1) % MODELS, model_b)
    model_a[ARENA_BATTLES:], model_b[ARENA_BATTLES:] = STRONG, WEAK
    strength = -np.arange(MODELS) / 16.0 + rng.standard_normal((TOPICS, MODELS))
    topic = topics_of(count, seed)
    p_win = 1 / (1 + np.exp(strength[topic, model_b] - strength[topic, model_a]))
    outcome = np.where(rng.random(count) < 0.2, 2, (rng.random(count) > p_win).astype(int))
    return BattleTable(NAMES, model_a.astype(np.int32), model_b.astype(np.int32), outcome.astype(np.int8))


def make_embeddings(count: int, seed: int, dtype: Any = np.float32, rows: int = 4096) -> Iterator[Any]:
    """Yield embeddings like a hosted model's: a shared direction, a topic, and noise; cosines from 0 to 0.7."""
    topics = np.random.default_rng(1).standard_normal((TOPICS, DIMENSION), dtype=np.float32)
    shared = np.random.default_rng(2).standard_normal(DIMENSION, dtype=np.float32)
    rng, topic = np.random.default_rng(seed), topics_of(count, seed)
    for start in range(0, count, rows):
        size = min(rows, count - start)
        noise = rng.standard_normal((size, DIMENSION), dtype=np.float32)
        yield (0.5 * shared + topics[topic[start : start + size]] + 0.8 * noise).astype(dtype)


def timed(call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the seconds of each of ``repeats`` calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def memory_megabytes(peak: bool) -> float:
    """Return this process's resident memory, now or at its peak (Linux; the usual peak counter survives a fork)."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


def measure_reference(count: int) -> dict[str, Any]:
    """Time the reference's algorithm, one prompt at a time (it has no other way)."""
    from benchmarks.routers.reference_sw import ReferenceSimilarityWeighted
    from routellm_core.routers.sw_ranking.bradley_terry import compute_tiers, elo_ratings

    table = make_battles(count)
    tiers = compute_tiers(elo_ratings(table.models, table.model_a, table.model_b, table.outcome), 10)
    tier_of = np.array([tiers[name] for name in table.models])
    embeddings = np.empty((count, DIMENSION))
    row = 0
    for batch in make_embeddings(count, 3, np.float64):
        embeddings[row : row + len(batch)] = batch
        row += len(batch)
    router = ReferenceSimilarityWeighted(
        tier_of[table.model_a],
        tier_of[table.model_b],
        np.array(["model_a", "model_b", "tie"], dtype=object)[table.outcome],
        embeddings,
        tiers[NAMES[STRONG]],
        tiers[NAMES[WEAK]],
    )
    prompts = next(make_embeddings(8, 4, np.float64))
    scores: list[float] = []
    times = [timed(lambda prompt=prompt: scores.append(router.score(prompt)), 1)[0] for prompt in prompts[:4]]
    return {"seconds": times, "scores": scores[::2], "peak_mb": memory_megabytes(peak=True)}


def measure_ours(count: int, folder: Path, dtype: str, device: str) -> dict[str, Any]:
    """Time start-up from files and several batch sizes, and record scores and memory."""
    import pyarrow.parquet  # noqa: F401  (libraries are not the index's memory)

    if dtype != "float32" or device != "cpu":
        import torch  # noqa: F401

    from routellm_core.routers.sw_ranking.battles import BattleTable, embedding_batches
    from routellm_core.routers.sw_ranking.index import BattleIndex
    from routellm_core.routers.sw_ranking.router import ScoringState

    def build(rows: int) -> ScoringState:
        """Take the constructor's own way from data set files, with a table in place of the battles' text."""
        saved = np.load(folder / f"battles_{rows}.npz")
        index = BattleIndex.build(
            BattleTable(NAMES, saved["model_a"], saved["model_b"], saved["outcome"]),
            embedding_batches([folder / f"embeddings_{rows}.parquet"]),
            dtype=dtype,
            num_tiers=10,
            count_self_battles=True,
        )
        return ScoringState(index, (NAMES[STRONG], NAMES[WEAK]), device, 64 << 20)

    # A small index first, so that the libraries' own code and buffers are not counted as the index's memory.
    small = build(SMALL)
    small.win_rates(next(make_embeddings(1, 4)))
    libraries = memory_megabytes(peak=False)
    start = time.perf_counter()
    state = build(count)
    index = state.index
    start_up = time.perf_counter() - start
    loaded = memory_megabytes(peak=True)
    prompts = next(make_embeddings(128, 4))
    times = {}
    for batch, repeats in BATCHES.items():
        part = prompts[:batch]
        times[batch] = [value / batch for value in timed(lambda part=part: state.win_rates(part), repeats)]
    words = index.blocks[0].embeddings.values.reshape(-1).view(np.int64)
    return {
        "seconds": times,
        "seconds_to_read": timed(lambda: np.bitwise_or.reduce(words), 5),
        "scores": state.win_rates(prompts[:64]).tolist(),
        "start_up": start_up,
        "embeddings_mb": index.nbytes / 2**20,
        "loaded_mb": loaded - libraries,
        "peak_mb": memory_megabytes(peak=True) - libraries,
        "runs_on": state.runs_on,
    }


def write_inputs(count: int, folder: Path) -> None:
    """Write battles and embeddings as files, as data sets come."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = make_battles(count)
    np.savez(folder / f"battles_{count}.npz", model_a=table.model_a, model_b=table.model_b, outcome=table.outcome)
    schema = pa.schema([("embeddings", pa.list_(pa.float32()))])
    with pq.ParquetWriter(folder / f"embeddings_{count}.parquet", schema, compression="none") as writer:
        for batch in make_embeddings(count, 3, rows=1000):  # the row groups that the datasets library writes
            offsets = np.arange(0, batch.size + 1, DIMENSION, dtype=np.int32)
            writer.write_table(pa.table([pa.ListArray.from_arrays(offsets, batch.reshape(-1))], schema=schema))


def run_worker(*arguments: str) -> dict[str, Any]:
    """Run one measurement in its own process."""
    command = [sys.executable, "-m", "benchmarks.routers.sw_ranking", "--worker", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(
    count: int, reference: dict[str, Any], ours: dict[str, dict[str, Any]], load: float
) -> Iterator[dict[str, Any]]:
    """Yield one row per storage type. Times are medians; the ratio of best times stands beside the medians' ratio."""
    middle, best = float(np.median(reference["seconds"])), min(reference["seconds"])
    exact = np.array(ours["float32"]["scores"])
    for dtype, result in ours.items():
        scores = np.array(result["scores"])
        times = {int(batch): values for batch, values in result["seconds"].items()}
        row = {"battles": count, "storage": f"{dtype}, {result['runs_on']}", "reference ms": 1e3 * middle}
        row |= {f"ms at {batch}": 1e3 * float(np.median(values)) for batch, values in times.items()}
        row |= {f"× at {batch}": middle / float(np.median(times[batch])) for batch in (1, 128)}
        row |= {f"× at {batch}, best times": best / min(times[batch]) for batch in (1, 128)}
        yield row | {
            "one read ms": 1e3 * min(result["seconds_to_read"]),
            "start s": result["start_up"],
            "embeddings MB": result["embeddings_mb"],
            "memory loaded / embeddings": result["loaded_mb"] / result["embeddings_mb"],
            "memory scoring / embeddings": result["peak_mb"] / result["embeddings_mb"],
            "reference MB": reference["peak_mb"],
            "max |Δ| to float32": float(np.abs(scores - exact).max()),
            "max |Δ| to reference": float(np.abs(scores[: len(reference["scores"])] - reference["scores"]).max()),
            "scores from": float(exact.min()),
            "to": float(exact.max()),
            "load average": load,
        }


def main() -> None:
    """Run the benchmark, or one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--battles", type=int, nargs="+", default=[55_000, 164_000])
    parser.add_argument("--dtypes", nargs="+", default=["int8"], help="besides float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, count, folder, dtype, device = arguments.worker
        ours = what == "ours"
        measured = measure_ours(int(count), Path(folder), dtype, device) if ours else measure_reference(int(count))
        print(json.dumps(measured))
        return
    from benchmarks.report import write_report

    rows: list[dict[str, Any]] = []
    for count in arguments.battles:
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(count, Path(folder))
            write_inputs(SMALL, Path(folder))
            load = os.getloadavg()[0]
            reference = run_worker("reference", str(count), folder, "float64", "cpu")
            ours = {
                dtype: run_worker("ours", str(count), folder, dtype, arguments.device)
                for dtype in ("float32", *arguments.dtypes)
            }
            reference["seconds"] += run_worker("reference", str(count), folder, "float64", "cpu")["seconds"]
        rows += rows_of(count, reference, ours, load)
        for row in rows[-len(ours) :]:
            print(
                json.dumps({key: round(value, 8) if isinstance(value, float) else value for key, value in row.items()})
            )
    write_report("sw_ranking against the reference's algorithm", rows, arguments.json, shown=SHOWN)


if __name__ == "__main__":
    main()
