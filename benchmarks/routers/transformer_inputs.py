"""What the transformer benchmarks share: real prompts, a tokenizer trained on them, and the device's matrix rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["clear_cache", "load_prompts", "matrix_flops_per_second", "seconds", "train_tokenizer"]

_STAND_IN = "Explain, step by step, how a suspension bridge carries its load, and where it would fail first. "


def load_prompts(count: int) -> list[str]:
    """Return real prompts of real lengths from ``../shared/data``, or made-up ones of like lengths without it."""
    shared = Path(os.environ.get("ROUTELLM_SHARED", Path(__file__).parents[3] / "shared"))
    file = shared / "data" / "pool_train" / "prompts.parquet"
    rng = np.random.default_rng(0)
    if file.is_file():
        import pyarrow.parquet as pq

        prompts = pq.read_table(file, columns=["prompt"]).column("prompt").to_pylist()
        return [prompts[row] for row in rng.choice(len(prompts), count, replace=False)]
    lengths = np.exp(rng.normal(5.2, 1.0, count)).astype(int).clip(4, 12_000)
    return [(_STAND_IN * (length // len(_STAND_IN) + 1))[:length] for length in lengths]


def train_tokenizer(prompts: list[str], special: list[str], template: str) -> Tokenizer:
    """Train a byte-level BPE tokenizer of 8,000 tokens; it cuts text a little finer than the published ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    roles = ["system", "user", "assistant", "\n\n"] * 50  # one token each, as in Llama 3's vocabulary
    tokenizer.train_from_iterator([*prompts[:2000], *roles], trainer)
    used = [(token, tokenizer.token_to_id(token)) for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return tokenizer


def synchronise(device: Any) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def clear_cache(device: Any) -> None:
    """Give unused device memory back between measurements."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def seconds(call: Callable[[], Any], device: Any, repeats: int = 3, warm_up: bool = True) -> float:
    """Return the median time of a call, after one that is not counted."""
    times = []
    for number in range(repeats + int(warm_up)):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        if number or not warm_up:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def matrix_flops_per_second(device: Any, dtype: Any) -> float:
    """Return the rate of a large matrix product on this device in this dtype: what a model could reach at best."""
    size = 8192 if device.type == "cuda" else 1536
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / seconds(lambda: left @ right, device, repeats=7)
