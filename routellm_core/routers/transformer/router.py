"""What ``bert`` and ``causal_llm`` have in common: a checkpoint on a device that scores prompts window by window."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, SupportsIndex

import numpy as np
import numpy.typing as npt

from routellm_core._files import resolve_checkpoint
from routellm_core.routers.base import Router
from routellm_core.routers.reference import ScoreReference
from routellm_core.routers.transformer.batching import progress_bar, resolve_device, resolve_dtype
from routellm_core.types import FloatArray

__all__ = ["TransformerRouter"]


class TransformerRouter(Router):
    """A router that runs a transformer.

    Args:
        options: what the subclass was built with, its pickle; among them ``checkpoint_path``, ``revision``, ``device``,
            ``dtype``, ``token_budget`` and ``show_progress``, which mean the same to all.

    Attributes:
        folder: the checkpoint.
        device: the ``torch.device`` to compute on.
        dtype: the ``torch.dtype`` to compute in.
        saved: what the checkpoint says about its scores.
        token_budget: most tokens of a batch.
    """

    window: ClassVar[int]
    """Prompts tokenised and sorted together; a longer list is worked off in windows, in constant memory."""
    token_budgets: ClassVar[tuple[int, int]]
    """The default budget on a CPU and on a GPU."""

    _max_tokens: int
    _quantiles: FloatArray | None
    _digest: str

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self.device = resolve_device(options["device"])
        self.dtype = resolve_dtype(options["dtype"], self.device)
        self.folder = resolve_checkpoint(options["checkpoint_path"], revision=options["revision"])
        self.saved = ScoreReference.load(self.folder)
        self.token_budget: int = options["token_budget"] or self.token_budgets[self.device.type != "cpu"]

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self.loaded_from is not None:
            return super().__reduce_ex__(protocol)
        # Weights are read again where a pickle arrives, which may have no GPU.
        return partial(type(self), **self._options), ()

    def score(self, prompts: Sequence[str]) -> FloatArray:
        """Return one score per prompt, shape (n,), float64; see the class."""
        with progress_bar(len(prompts), label=self.name, shown=self._options["show_progress"]) as advance:
            windows = [
                self._score_window(prompts[at : at + self.window], advance)
                for at in range(0, len(prompts), self.window)
            ]
        return np.concatenate(windows) if windows else np.empty(0)

    @abstractmethod
    def _score_window(
        self, prompts: Sequence[str], advance: Callable[[int], None] | None
    ) -> npt.NDArray[np.float64]: ...

    @property
    def reference_quantiles(self) -> FloatArray | None:
        """The checkpoint's, which hold for the options of its training only."""
        return self._quantiles

    @property
    def precision(self) -> str:
        """The number type or quantization that it computes in, by name."""
        return str(self._options.get("quantization") or str(self.dtype).removeprefix("torch."))

    def describe(self) -> dict[str, Any]:
        """Return checkpoint, device, dtype and token budget beside the base facts."""
        return {
            **super().describe(),
            "checkpoint": str(self._options["checkpoint_path"]),
            "device": str(self.device),
            "dtype": self.precision,
            "token_budget": self.token_budget,
        }
