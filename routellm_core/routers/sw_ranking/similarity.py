"""From prompt embeddings to similarity weights summed by group of battles: the one expensive step of ``sw_ranking``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from routellm_core.errors import MissingExtraError
from routellm_core.routers.sw_ranking.storage import SMALL_INDEX_BYTES, Float32, StoredEmbeddings, quantise_rows

__all__ = ["BattleWeights", "GroupSums", "NumpyGroupSums", "Starts", "make_group_sums", "weight_exponents"]

Starts: TypeAlias = Sequence[npt.NDArray[np.intp]]
BattleWeights: TypeAlias = Sequence[Float32 | None]

_LARGEST_FACTOR = 1e30  # a similarity times this is still a float32


def weight_exponents(largest: npt.ArrayLike, smallest: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what turns similarities s into battle weights: 2^(factor · s − offset), at most 1.

    They are RouteLLM's 10·10^(s / max s) (arXiv 2406.18665, section 4.2) divided by the prompt's largest one, which
    does not change the fit and keeps the power from overflowing. RouteLLM divides by the largest similarity whatever
    its sign: below zero, the least similar battle weighs most. Where it is zero, RouteLLM divides by zero; here all
    battles then weigh the same.
    Arguments are each prompt's largest and smallest similarity, shape (B,); factor and offset have the same shape.
    """
    top, bottom = np.asarray(largest, dtype=np.float64), np.asarray(smallest, dtype=np.float64)
    factor = np.divide(math.log2(10.0), top, out=np.zeros_like(top), where=top != 0.0)
    factor = np.clip(factor, -_LARGEST_FACTOR, _LARGEST_FACTOR)
    return factor, factor * np.where(top > 0.0, top, bottom)


GroupSums: TypeAlias = Callable[[Float32], npt.NDArray[Any]]
"""From unit rows, shape (B, d), to sums over each of G groups of consecutive battles, shape (B, G), float32, of the
weights of :func:`weight_exponents` times each battle's own."""


class NumpyGroupSums:
    """Group sums on the CPU; arguments are those of :func:`make_group_sums`.

    ``integers`` multiplies int8 prompts, shape (B, d), and int8 rows, shape (n, d), to (B, n) int32; None where there
    is nothing faster than widening tiles.
    """

    def __init__(
        self,
        blocks: Sequence[StoredEmbeddings],
        starts: Starts,
        weights: BattleWeights,
        *,
        integers: Callable[[npt.NDArray[np.int8], npt.NDArray[np.int8]], npt.NDArray[np.int32]] | None = None,
    ) -> None:
        self._blocks, self._starts, self._weights, self._integers = blocks, starts, weights, integers

    def __call__(self, prompts: Float32) -> Float32:
        """See ``GroupSums``."""
        cosines = [self._cosines(prompts, block) for block in self._blocks]
        # Prompt by prompt: one row of similarities stays in the processor's cache through all the steps.
        return np.stack([self._sums_of_prompt([part[row] for part in cosines]) for row in range(len(prompts))])

    def _sums_of_prompt(self, cosines: list[Float32]) -> Float32:
        factor, offset = weight_exponents(max(part.max() for part in cosines), min(part.min() for part in cosines))
        sums = []
        for part, first, weight in zip(cosines, self._starts, self._weights, strict=True):
            part *= np.float32(factor)
            part -= np.float32(offset)
            np.exp2(part, out=part)
            if weight is not None:
                part *= weight
            sums.append(np.add.reduceat(part, first))
        return np.concatenate(sums)

    def _cosines(self, prompts: Float32, stored: StoredEmbeddings) -> Float32:
        """Return cosine similarities, shape (B, n)."""
        if stored.steps is None:
            return np.asarray(prompts @ stored.values.T)
        if self._integers is not None:
            levels, prompt_steps = quantise_rows(prompts)
            # The largest sum, 127² · d, stays far inside 32 bits for any embedding length below 133,000.
            result = self._integers(levels, stored.values).astype(np.float32)
            result *= prompt_steps[:, None]
        else:
            result = np.empty((len(prompts), stored.rows), dtype=np.float32)
            for tile in stored.tiles():
                rows = stored.values[tile].astype(np.float32)
                # Rows times prompts, then transposed: the other order repacks the prompts for every tile.
                result[:, tile] = (rows @ prompts[0])[None] if len(prompts) == 1 else (rows @ prompts.T).T
        result *= stored.steps
        return result


def make_group_sums(
    blocks: Sequence[StoredEmbeddings], starts: Starts, weights: BattleWeights, *, device: str
) -> tuple[GroupSums, str]:
    """Choose where to compute.

    NumPy for float32 rows on a CPU, and for small indexes, since importing PyTorch takes longer (1.6 s) than thousands
    of scores; PyTorch on a GPU, and for the integer product of large int8 indexes where it is installed, since NumPy
    has to widen those tile by tile for every batch.

    Args:
        blocks: embeddings, each block sorted by group.
        starts: per block the first row of each group.
        weights: per block the battles' own weights, or None where all count alike.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` …

    Returns:
        the summing object, and a few words on what it runs on.

    Raises:
        ConfigError: an unknown or absent device.
        MissingExtraError: a GPU is asked for and PyTorch is not installed.
    """
    is_small = sum(block.nbytes for block in blocks) < SMALL_INDEX_BYTES
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

            return TorchGroupSums(blocks, starts, weights, device=chosen), f"torch on {chosen}"
    if is_small:
        blocks = [StoredEmbeddings(block.widened()) if block.steps is not None else block for block in blocks]
    elif has_torch and any(block.steps is not None for block in blocks):
        from routellm_core.routers.sw_ranking.similarity_torch import integer_product

        if (product := integer_product()) is not None:
            return NumpyGroupSums(blocks, starts, weights, integers=product), "torch on cpu"
    return NumpyGroupSums(blocks, starts, weights), "numpy on cpu"
