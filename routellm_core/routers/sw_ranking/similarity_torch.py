"""Cosine similarities and group sums by PyTorch: int8 and float16 kernels on a CPU, everything on a GPU.

Imported only when PyTorch is installed and wanted; ``sw_ranking`` works with NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from routellm_core.routers.sw_ranking.similarity import Float32, StoredEmbeddings, quantise_rows

__all__ = ["TorchCpuSimilarity", "TorchGroupSums", "has_fast_int8"]

_TILE_ROWS = 4096
_LARGEST_FACTOR = 1e30  # a similarity times this is still a float32
_FEW_PROMPTS = 32
"""Up to this many prompts, float16 rows are multiplied as they are, one prompt at a time (memory bound); above,
PyTorch's float16 matrix product on a CPU is slower than widening tiles to float32."""


def has_fast_int8() -> bool:
    """Whether this PyTorch has an int8 matrix product on the CPU that uses the processor's vector instructions."""
    return hasattr(torch, "_int_mm") and torch.backends.mkldnn.is_available()


class TorchCpuSimilarity:
    """Cosines of compactly stored rows on a CPU.

    int8: the prompts are rounded to 255 levels too, and the product runs in integers, exactly; float16: see
    ``_FEW_PROMPTS``. The arrays are shared with NumPy, not copied.
    """

    def __init__(self, stored: StoredEmbeddings) -> None:
        self._stored = stored
        self._values = torch.from_numpy(stored.values)

    def cosines(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See :meth:`routellm_core.routers.sw_ranking.similarity.Similarity.cosines`."""
        if self._stored.steps is not None:
            return self._integer_cosines(prompts, self._stored.steps)
        queries = torch.from_numpy(prompts)
        result = torch.empty((len(prompts), self._stored.rows), dtype=torch.float32)
        if len(prompts) <= _FEW_PROMPTS:
            for row, query in enumerate(queries.to(self._values.dtype)):
                result[row] = torch.mv(self._values, query)
            return np.asarray(result.numpy())
        for start in range(0, self._stored.rows, _TILE_ROWS):
            tile = self._values[start : start + _TILE_ROWS].float()
            torch.mm(queries, tile.T, out=result[:, start : start + len(tile)])
        return np.asarray(result.numpy())

    def _integer_cosines(self, prompts: Float32, steps: Float32) -> Float32:
        levels, prompt_steps = quantise_rows(prompts)
        # The largest sum, 127² · d, stays far inside 32 bits for any embedding length below 133,000.
        dots: npt.NDArray[np.int32] = torch._int_mm(torch.from_numpy(levels), self._values.T).numpy()
        result = dots.astype(np.float32)
        result *= steps
        result *= prompt_steps[:, None]
        return result


class TorchGroupSums:
    """The whole path from prompts to group sums on one device, so that only a few kilobytes per prompt come back.

    Args:
        blocks: the stored embeddings, in order; rows stay in their storage type, int8 rows are widened tile by tile.
        sizes: per block the rows of each group, in order, shape (G of the block,).
        device: where to compute.
        weights: per block the battles' own weights, shape (n,), or None; None for no weights at all.
    """

    def __init__(
        self,
        blocks: Sequence[StoredEmbeddings],
        sizes: Sequence[npt.NDArray[Any]],
        device: Any,
        weights: Sequence[npt.NDArray[np.float32] | None] | None = None,
    ) -> None:
        self._device = torch.device(device)
        self._values = [torch.from_numpy(block.values).to(self._device) for block in blocks]
        self._steps = [
            None if block.steps is None else torch.from_numpy(block.steps).to(self._device) for block in blocks
        ]
        self._weights = None
        if weights is not None and any(weight is not None for weight in weights):
            known = [np.ones(b.rows, np.float32) if w is None else w for b, w in zip(blocks, weights, strict=True)]
            self._weights = torch.from_numpy(np.concatenate(known)).to(self._device)
        rows = np.concatenate(sizes)
        self._group_count = len(rows)
        self._groups = torch.from_numpy(np.repeat(np.arange(len(rows), dtype=np.int64), rows)).to(self._device)

    def group_sums(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return each prompt's weights summed by group; see ``GroupSums`` in ``_group_sums.py``.

        Args:
            prompts: shape (B, d), unit rows.

        Returns:
            shape (B, G), each prompt's largest weight scaled to 1.
        """
        with torch.inference_mode():
            cosines = self._cosines(torch.from_numpy(prompts).to(self._device))  # (B, N)
            largest = cosines.amax(dim=1, keepdim=True)
            factor = torch.where(largest == 0, 0.0, math.log(10.0) / largest).clamp(-_LARGEST_FACTOR, _LARGEST_FACTOR)
            exponents = cosines * factor
            weights = torch.exp(exponents - exponents.amax(dim=1, keepdim=True))
            if self._weights is not None:
                weights *= self._weights
            sums = torch.zeros((len(prompts), self._group_count), dtype=weights.dtype, device=self._device)
            sums.index_add_(1, self._groups, weights)
            return np.asarray(sums.cpu().numpy())

    def _cosines(self, queries: torch.Tensor) -> torch.Tensor:
        parts = []
        for values, steps in zip(self._values, self._steps, strict=True):
            if steps is None:
                parts.append((queries.to(values.dtype) @ values.T).to(queries.dtype))
                continue
            part = torch.empty((len(queries), len(values)), dtype=torch.float32, device=self._device)
            half = torch.float16 if self._device.type != "cpu" else torch.float32
            for start in range(0, len(values), _TILE_ROWS * 4):
                tile = values[start : start + _TILE_ROWS * 4].to(half)
                part[:, start : start + len(tile)] = (queries.to(half) @ tile.T).float()
            parts.append(part * steps)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
