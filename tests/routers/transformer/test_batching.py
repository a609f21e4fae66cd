from __future__ import annotations

import gc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from routellm_core.errors import ConfigError, ScoringError  # noqa: E402  (after the checks for optional packages)
from routellm_core.routers.transformer.batching import (  # noqa: E402
    is_out_of_memory,
    plan_batches,
    progress_bar,
    resolve_device,
    resolve_dtype,
    run_batches,
)
from routellm_core.routers.transformer.loading import digest_of  # noqa: E402


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 2000), st.integers(1, 20), st.integers(0, 50))
def test_batches_hold_every_text_once_within_budget(lengths, token_budget, max_rows, fixed):
    batches = list(plan_batches(lengths, token_budget=token_budget, max_rows=max_rows, fixed_length=fixed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    widths = []
    for batch in batches:
        widest = max(lengths[index] for index in batch) + fixed
        widths.append(widest)
        assert len(batch) <= max_rows
        assert len(batch) == 1 or widest * len(batch) <= token_budget
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("options", [{"token_budget": 0}, {"token_budget": 5, "max_rows": 0}])
def test_bad_budgets(options):
    with pytest.raises(ConfigError, match="at least 1"):
        list(plan_batches([1], **options))


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 10))
def test_out_of_memory_loses_nothing(total, batch_rows, capacity):
    calls = []

    def score(indices):
        calls.append(len(indices))
        if len(indices) > capacity:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return indices * 2.0

    order = np.arange(total)[::-1]
    batches = [order[start : start + batch_rows] for start in range(0, total, batch_rows)]
    done: list[int] = []
    with patch.object(gc, "collect"):  # a full collection takes a tenth of a second with PyTorch loaded
        results = run_batches(batches, score, total=total, advance=done.append)
    np.testing.assert_array_equal(results, np.arange(total) * 2.0)
    assert sum(done) == total
    failures = sum(size > capacity for size in calls)
    assert failures <= 5  # the smaller size is kept; it is not found again for every batch


def test_one_text_that_does_not_fit():
    def score(_indices):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")

    with pytest.raises(ScoringError, match="memory does not suffice for one prompt"):
        run_batches([np.arange(4)], score, total=4)


def test_other_errors_pass():
    def score(_indices):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_batches([np.arange(4)], score, total=4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("x"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("other"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_device(monkeypatch):
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for wrong in ("tpu-v5", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match=wrong):
            resolve_device(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"


def test_dtype_by_device(monkeypatch):
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    assert resolve_dtype("auto", torch.device("mps")) == torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert resolve_dtype("auto", torch.device("cuda")) == torch.float16
    assert resolve_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(ConfigError, match="int8"):
        resolve_dtype("int8", torch.device("cpu"))


def test_no_bar_unless_shown(capsys):
    with progress_bar(3, label="x", shown=False) as advance:
        assert advance is None
    assert capsys.readouterr().err == ""


def test_digest_sees_any_part_of_a_large_file(tmp_path):
    file = tmp_path / "weights.safetensors"
    content = bytearray(np.random.default_rng(0).bytes(6 << 20))
    file.write_bytes(content)
    before = digest_of([file])
    assert digest_of([file]) == before
    for place in (0, len(content) - 1):
        changed = content.copy()
        changed[place] ^= 1
        file.write_bytes(changed)
        assert digest_of([file]) != before
