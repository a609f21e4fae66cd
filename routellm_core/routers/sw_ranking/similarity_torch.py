"""What PyTorch does for ``sw_ranking``: the whole path on a GPU, and the product of int8 rows on a CPU.

Imported only when PyTorch is installed and wanted; ``sw_ranking`` works with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from routellm_core.routers.sw_ranking.similarity import BattleWeights, Starts, weight_exponents
from routellm_core.routers.sw_ranking.storage import Float32, StoredEmbeddings

__all__ = ["TorchGroupSums", "integer_product"]


def integer_product() -> Callable[[npt.NDArray[np.int8], npt.NDArray[np.int8]], npt.NDArray[np.int32]] | None:
    """Return the exact product of int8 matrices on this CPU's vector instructions, or None where PyTorch has none."""
    if not (hasattr(torch, "_int_mm") and torch.backends.mkldnn.is_available()):
        return None
    # The arrays are shared with NumPy, not copied.
    return lambda prompts, rows: np.asarray(torch._int_mm(torch.from_numpy(prompts), torch.from_numpy(rows).T).numpy())


class TorchGroupSums:
    """The whole path from prompts to group sums on one device, so that only a few kilobytes per prompt come back.

    float32 rows stay float32; int8 rows become float16, which holds every level exactly and has a fast product.
    Arguments are those of ``make_group_sums``.
    """

    def __init__(
        self, blocks: Sequence[StoredEmbeddings], starts: Starts, weights: BattleWeights, *, device: Any
    ) -> None:
        self._device, placed = device, self._placed
        self._blocks = [
            (placed(block.values), None) if block.steps is None else (placed(block.values).half(), placed(block.steps))
            for block in blocks
        ]
        self._weights = None
        if any(weight is not None for weight in weights):
            known = [np.ones(b.rows, np.float32) if w is None else w for b, w in zip(blocks, weights, strict=True)]
            self._weights = placed(np.concatenate(known))
        sizes = np.concatenate(
            [np.diff(np.append(first, block.rows)) for first, block in zip(starts, blocks, strict=True)]
        )
        self._group_count = len(sizes)
        self._groups = placed(np.repeat(np.arange(len(sizes), dtype=np.int64), sizes))

    def __call__(self, prompts: Float32) -> npt.NDArray[Any]:
        """See ``GroupSums``."""
        with torch.inference_mode():
            queries = self._placed(prompts)
            weights = torch.cat([_cosines(queries, *block) for block in self._blocks], dim=1)  # (B, N)
            extremes = weights.amax(dim=1).cpu().numpy(), weights.amin(dim=1).cpu().numpy()
            factor, offset = (self._placed(part.astype(np.float32)[:, None]) for part in weight_exponents(*extremes))
            weights.mul_(factor).sub_(offset).exp2_()
            if self._weights is not None:
                weights *= self._weights
            sums = torch.zeros((len(prompts), self._group_count), device=queries.device)
            return np.asarray(sums.index_add_(1, self._groups, weights).cpu().numpy())

    def _placed(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


def _cosines(queries: torch.Tensor, values: torch.Tensor, steps: torch.Tensor | None) -> torch.Tensor:
    products = (queries.to(values.dtype) @ values.T).float()
    return products if steps is None else products * steps
