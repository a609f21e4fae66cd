"""``mf``: ours against a re-statement of the reference's algorithm, on the same embeddings, in one run.

    python -m benchmarks.routers.mf --json benchmarks/results/mf.json

The reference scores one prompt at a time: it looks two model vectors up, normalises them, projects the embedding,
applies the classifier and the sigmoid, in torch. Here the model folds into one vector at load. The second part embeds
through HTTP, from a local OpenAI-compatible process: one text a call, as the reference does, against many a call.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import write_report
from routellm_core.embeddings.base import Embeddings
from routellm_core.embeddings.litellm import LiteLLMEmbedder
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint

TEXT_DIM, DIM, MODELS = 1536, 128, 64


class RowEmbedder:
    """Stands in for the embedding call: the text is the number of a row."""

    name = "litellm/text-embedding-3-small"
    dimension = TEXT_DIM

    def __init__(self, table: Embeddings) -> None:
        self._table = table

    def embed(self, texts: Sequence[str]) -> Embeddings:
        first = int(texts[0])  # consecutive rows, so that no time goes into copying
        return self._table[first : first + len(texts)]


class ReferenceMf(torch.nn.Module):
    """The reference's steps for one prompt, in our words."""

    def __init__(self, weights: dict[str, torch.Tensor], strong: int, weak: int) -> None:
        super().__init__()
        self.vectors = torch.nn.Embedding.from_pretrained(weights["P.weight"])
        self.projection = torch.nn.Linear(TEXT_DIM, DIM, bias=False)
        self.projection.weight.data = weights["text_proj.0.weight"]
        self.classifier = torch.nn.Linear(DIM, 1, bias=False)
        self.classifier.weight.data = weights["classifier.0.weight"]
        self.pair = [strong, weak]

    @torch.no_grad()
    def score(self, embedding: list[float]) -> float:
        vectors = torch.nn.functional.normalize(self.vectors(torch.tensor(self.pair)), p=2, dim=1)
        projected = self.projection(torch.tensor(embedding))
        logits = self.classifier(vectors * projected).squeeze()
        return float(torch.sigmoid(logits[0] - logits[1]).item())


def seconds_per_prompt(work: Callable[[], Any], prompts: int, runs: int) -> float:
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) / prompts)
    return statistics.median(times)


@contextmanager
def served_in_a_process() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "routellm_core.testing.local_models", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder in the published layout")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    table = rng.standard_normal((512, TEXT_DIM)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    checkpoint = MfCheckpoint.load(arguments.checkpoint)
    router = MatrixFactorizationRouter(checkpoint_path=arguments.checkpoint, embedder=RowEmbedder(table))
    weights = {
        "P.weight": torch.tensor(checkpoint.model_vectors, dtype=torch.float32),
        "text_proj.0.weight": torch.tensor(checkpoint.projection, dtype=torch.float32),
        "classifier.0.weight": torch.tensor(checkpoint.classifier, dtype=torch.float32)[None],
    }
    strong, weak = (checkpoint.models.index(model) for model in checkpoint.pair)
    reference = ReferenceMf(weights, strong, weak)
    lists, names = [row.tolist() for row in table], [str(row) for row in range(len(table))]
    difference = np.abs(router.score(names) - [reference.score(row) for row in lists]).max()
    if difference > 1e-6:
        raise SystemExit(f"the two disagree by {difference}")

    theirs = seconds_per_prompt(lambda: [reference.score(row) for row in lists], len(lists), arguments.runs)
    alone = seconds_per_prompt(lambda: [router.score([name]) for name in names], len(names), arguments.runs)
    batch = seconds_per_prompt(lambda: router.score(names), len(names), arguments.runs)
    rows: list[dict[str, Any]] = [
        {
            "what": "score from an embedding, one at a time",
            "reference µs": theirs * 1e6,
            "ours µs": alone * 1e6,
            "ratio": theirs / alone,
        },
        {
            "what": "score from an embedding, batch of 512",
            "reference µs": theirs * 1e6,
            "ours µs": batch * 1e6,
            "ratio": theirs / batch,
        },
    ]
    with served_in_a_process() as base_url:
        texts = [f"prompt number {number}" for number in range(200)]
        embedder = LiteLLMEmbedder(model="openai/text-embedding-3-small", api_base=base_url, api_key="local")
        single = seconds_per_prompt(lambda: [embedder.embed([text]) for text in texts], len(texts), 3)
        many = seconds_per_prompt(lambda: embedder.embed(texts), len(texts), 3)
    rows.append(
        {
            "what": "embedding over HTTP, 200 texts",
            "reference µs": single * 1e6,
            "ours µs": many * 1e6,
            "ratio": single / many,
        }
    )
    write_report("mf against the reference's algorithm", rows, arguments.json)


if __name__ == "__main__":
    main()
