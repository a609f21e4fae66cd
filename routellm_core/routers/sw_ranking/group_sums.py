"""From prompt embeddings to similarity weights summed by group of battles: the one expensive step of ``sw_ranking``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import MissingExtraError
from routellm_core.routers.sw_ranking.similarity import NumpySimilarity, Similarity, StorageType, StoredEmbeddings

__all__ = ["BattleWeights", "CpuGroupSums", "GroupSums", "default_storage_type", "make_group_sums"]

_LOG2_10 = math.log2(10.0)
_LARGEST_FACTOR = 1e30  # a similarity times this is still a float32
_SMALL_INDEX_BYTES = 32 << 20
"""Below this, importing PyTorch (1.6 s) is not worth its while: compact rows are widened to float32 once, at most
128 MB, and NumPy answers within a few milliseconds."""


BattleWeights: TypeAlias = Sequence[npt.NDArray[np.float32] | None]


class GroupSums(Protocol):
    """Sums each prompt's battle weights within groups of consecutive battles."""

    def group_sums(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sums.

        Args:
            prompts: shape (B, d), unit rows.

        Returns:
            shape (B, G), of the prompts' dtype: the sum over the group's battles of
            10·10^(similarity / largest similarity) (arXiv 2406.18665, section 4.2), divided by the prompt's largest
            one and times the battle's own weight. The divisor does not change the fit, and keeps the power from
            overflowing where the largest similarity is near zero or negative.
        """
        ...


class CpuGroupSums:
    """Group sums on the CPU.

    Args:
        blocks: embeddings, each block sorted by group.
        starts: per block the first row of each group, ascending, from 0.
        similarities: per block what computes its cosines.
        weights: per block the battles' own weights, shape (n,), or None; None for no weights at all.
    """

    def __init__(
        self,
        blocks: Sequence[StoredEmbeddings],
        starts: Sequence[npt.NDArray[np.intp]],
        similarities: Sequence[Similarity],
        weights: BattleWeights | None = None,
    ) -> None:
        self._parts = [
            (similarity, first, weight)
            for block, first, similarity, weight in zip(
                blocks, starts, similarities, weights or [None] * len(blocks), strict=True
            )
            if block.rows
        ]

    def group_sums(self, prompts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See :meth:`GroupSums.group_sums`."""
        cosines = [similarity.cosines(prompts) for similarity, _, _ in self._parts]
        # Prompt by prompt: one row of similarities stays in the processor's cache through all the steps.
        return np.stack([self._sums_of_prompt([part[row] for part in cosines]) for row in range(len(prompts))])

    def _sums_of_prompt(self, cosines: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        factor, top = _exponent_scale(
            max(float(part.max()) for part in cosines), min(float(part.min()) for part in cosines)
        )
        for part, (_, _, weight) in zip(cosines, self._parts, strict=True):
            part *= part.dtype.type(factor)
            part -= part.dtype.type(top)
            np.exp2(part, out=part)
            if weight is not None:
                part *= weight
        firsts = [first for _, first, _ in self._parts]
        return np.concatenate([np.add.reduceat(part, first) for part, first in zip(cosines, firsts, strict=True)])


def _exponent_scale(largest: float, smallest: float) -> tuple[float, float]:
    """Return factor and offset that turn similarities into the weights' binary exponents, at most 0.

    RouteLLM divides by the largest similarity whatever its sign: below zero, the least similar battle weighs most.
    Where it is zero, RouteLLM divides by zero; here all battles then weigh the same.
    """
    if largest == 0.0:
        return 0.0, 0.0
    factor = math.copysign(min(_LOG2_10 / abs(largest), _LARGEST_FACTOR), largest)
    return factor, factor * (largest if largest > 0 else smallest)


def default_storage_type(float32_bytes: int, device: str) -> StorageType:
    """Choose how to store embeddings where the user did not.

    Small ones stay float32. Large ones are read from memory for every batch, so that fewer bytes are less time: int8 on
    a CPU, float16 on a GPU. At this size either moves scores by less than RouteLLM's own solver is off (2e-4 to 5e-4);
    see docs/decisions/0002.

    Args:
        float32_bytes: what they would take in float32.
        device: the ``device`` option.
    """
    if float32_bytes < 4 * _SMALL_INDEX_BYTES:
        return "float32"
    if device == "auto" and find_spec("torch") is not None:
        from routellm_core.routers.transformer.batching import resolve_device

        device = resolve_device(device).type
    return "int8" if device in ("auto", "cpu") else "float16"


def make_group_sums(
    blocks: Sequence[StoredEmbeddings],
    starts: Sequence[npt.NDArray[np.intp]],
    device: str,
    *,
    weights: BattleWeights | None = None,
) -> tuple[GroupSums, str]:
    """Choose where to compute.

    NumPy for float32 rows on a CPU, and for small indexes; PyTorch for a GPU, and on a CPU for large int8 or float16
    indexes where it is installed, since NumPy has to widen those tile by tile for every batch.

    Args:
        blocks: embeddings, each block sorted by group.
        starts: per block the first row of each group.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` …
        weights: per block the battles' own weights, or None where all count alike.

    Returns:
        the summing object, and a few words on what it runs on.

    Raises:
        ConfigError: an unknown or absent device.
        MissingExtraError: a GPU is asked for and PyTorch is not installed.
    """
    is_small = sum(block.nbytes for block in blocks) < _SMALL_INDEX_BYTES
    has_torch = find_spec("torch") is not None
    if device == "auto" and (is_small or not has_torch):
        device = "cpu"
    if device != "cpu":
        if not has_torch:
            raise MissingExtraError("torch", "torch", f"sw_ranking on device {device!r}")
        from routellm_core.routers.transformer.batching import resolve_device

        chosen = resolve_device(device)
        if chosen.type != "cpu":
            from routellm_core.routers.sw_ranking.similarity_torch import TorchGroupSums

            sizes = [np.diff(np.append(first, block.rows)) for first, block in zip(starts, blocks, strict=True)]
            return TorchGroupSums(blocks, sizes, chosen, weights), f"torch on {chosen}"
    kinds = {block.storage_type for block in blocks}
    if not kinds <= {"float32", "float64"} and not is_small and has_torch:
        from routellm_core.routers.sw_ranking.similarity_torch import TorchCpuSimilarity, has_fast_int8

        if has_fast_int8():
            compact: list[Similarity] = [TorchCpuSimilarity(block) for block in blocks]
            return CpuGroupSums(blocks, starts, compact, weights), "torch on cpu"
    if is_small:
        rows = [block if block.values.dtype == block.prompt_dtype else block.as_float32() for block in blocks]
    else:
        rows = list(blocks)
    return CpuGroupSums(rows, starts, [NumpySimilarity(block) for block in rows], weights), "numpy on cpu"
