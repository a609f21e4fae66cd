"""Which device, which number type, which batches: one policy for every router that runs on PyTorch."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError, ScoringError

torch: Any = import_extra("torch", extra="torch", purpose="Scoring with a transformer or on a GPU")

__all__ = [
    "DTYPES",
    "is_out_of_memory",
    "plan_batches",
    "progress_bar",
    "resolve_device",
    "resolve_dtype",
    "run_batches",
]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

DTYPES = ("auto", "float32", "bfloat16", "float16")
_MAX_ROWS = 256
_DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu")


def resolve_device(device: str = "auto") -> Any:
    """Return the ``torch.device`` to compute on.

    Args:
        device: ``"auto"`` takes CUDA if there is one, else Apple's MPS, else the CPU; or a PyTorch device string.

    Raises:
        ConfigError: not a device string, or a device that this machine or this PyTorch does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"device {device!r} is not one of auto, {', '.join(_DEVICE_KINDS)} or cuda:<number>"
        ) from error
    available = {
        "cpu": lambda: True,
        "cuda": lambda: (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
        "xpu": lambda: hasattr(torch, "xpu") and (chosen.index or 0) < torch.xpu.device_count(),
    }.get(chosen.type)
    if available is None or not available():
        raise ConfigError(
            f"device {device!r} is not available here (PyTorch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices); use device='auto' to take what there is"
        )
    return chosen


def resolve_dtype(dtype: str, device: Any) -> Any:
    """Return the ``torch.dtype`` of a name, or raise ConfigError for an unknown one.

    ``"auto"`` is bfloat16 on a CUDA device that computes in it (compute capability 8 and later), float16 on older ones
    and on MPS, and float32 on a CPU, where bfloat16 is several times slower without dedicated instructions.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return {"mps": torch.float16, "xpu": torch.bfloat16}.get(device.type, torch.float32)


def plan_batches(
    lengths: Sequence[int], *, token_budget: int, max_rows: int = _MAX_ROWS, fixed_length: int = 0
) -> Iterator[npt.NDArray[np.int64]]:
    """Group texts of similar ``lengths``, in tokens, so that little is spent on padding; yields each batch's indices.

    The longest comes first, so that memory runs out at once or not at all. A batch has at most ``max_rows`` texts and
    ``token_budget`` tokens, padding included, though one text alone may exceed it; ``fixed_length`` are tokens that
    every text carries besides its own (a shared prefix whose cache takes memory).
    Raises ConfigError for limits below 1.
    """
    if token_budget < 1 or max_rows < 1:
        raise ConfigError(f"token_budget ({token_budget}) and max_rows ({max_rows}) must be at least 1")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        widest = max(1, int(lengths[order[start]]) + fixed_length)
        rows = max(1, min(max_rows, token_budget // widest))
        yield order[start : start + rows]
        start += rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device's memory ran out (CUDA has a class for it, MPS and the CPU a sentence)."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def run_batches(
    batches: Iterator[npt.NDArray[np.int64]] | Sequence[npt.NDArray[np.int64]],
    score_batch: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]],
    *,
    total: int,
    advance: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Run every batch and put the results in order; a batch that does not fit in memory is halved and tried again.

    ``score_batch`` goes from indices, shape (k,), to results, shape (k,); ``advance`` is told how many have just come
    in. Returns shape (total,), float64. Raises ScoringError where a single text does not fit in memory.
    """
    results = np.full(total, np.nan)
    divisor = 1
    for batch in batches:
        pending = _pieces([batch], max(1, len(batch) // divisor))
        while pending:
            indices = pending.pop(0)
            scores = _attempt(score_batch, indices)
            if scores is None:
                # Later batches hold as many tokens and would run out too: they are divided from the start.
                divisor *= 2
                pending = _pieces([indices, *pending], len(indices) // 2)
                continue
            results[indices] = scores
            if advance is not None:
                advance(len(indices))
    return results


@contextmanager
def progress_bar(total: int, *, label: str, shown: bool) -> Iterator[Callable[[int], None] | None]:
    """Draw a progress bar on standard error, if ``shown``; yields what to tell of finished prompts, or None."""
    if not shown:
        yield None
        return
    with import_extra("tqdm", extra="torch", purpose="A progress bar").tqdm(
        total=total, desc=label, unit="prompt"
    ) as bar:
        yield bar.update


def _pieces(batches: Sequence[npt.NDArray[np.int64]], rows: int) -> list[npt.NDArray[np.int64]]:
    """Cut batches into pieces of at most ``rows``."""
    return [batch[start : start + rows] for batch in batches for start in range(0, len(batch), rows)]


def _attempt(
    score_batch: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]], indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Return the batch's results, or None where memory ran out and the batch can be halved."""
    try:
        return score_batch(indices)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(indices) == 1:
            raise ScoringError(
                f"the device's memory does not suffice for one prompt ({str(error).splitlines()[0]}); lower "
                "max_tokens, choose a smaller dtype or quantization, or another device"
            ) from error
        _log.warning("out of memory with %d prompts in a batch; going on with half as many", len(indices))
    # Outside the except block: the traceback, which holds the failed batch's tensors, is gone by now.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return None
