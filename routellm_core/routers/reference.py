"""What a checkpoint says about its own scores: reference quantiles, and ``routing.json`` beside a transformer's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_core._files import read_json
from routellm_core.errors import CheckpointError
from routellm_core.metrics.scores import are_quantiles
from routellm_core.types import FloatArray

__all__ = ["ROUTING_FILE", "ScoreReference", "checked_quantiles"]

ROUTING_FILE: Final = "routing.json"


@dataclass(frozen=True, eq=False)
class ScoreReference:
    """What was found beside the weights; published checkpoints have nothing there."""

    quantiles: FloatArray | None = None  # of the scores on the checkpoint's reference traffic, shape (1001,), or None
    max_tokens: int | None = None  # where prompts were cut in training, or None
    # whether a causal model's score counts only where it would write it; None where nothing is said
    exact: bool | None = None

    @classmethod
    def load(cls, folder: Path) -> ScoreReference:
        """Read ``routing.json`` where there is one.

        Raises:
            CheckpointError: it is not JSON, or a value makes no sense.
        """
        file = folder / ROUTING_FILE
        if not file.is_file():
            return cls()
        content = read_json(file)
        limit = content.get("max_tokens")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise CheckpointError(f"{file}: max_tokens must be a positive number, got {limit!r:.40}")
        return cls(
            checked_quantiles(content.get("reference_quantiles"), source=file),
            limit,
            None if "exact" not in content else bool(content["exact"]),
        )


def checked_quantiles(quantiles: Any, *, source: object) -> FloatArray | None:
    """Return the reference quantiles found at ``source`` as an array, shape (1001,), or None where there are none.

    Raises CheckpointError where they are not 1001 ascending numbers in [0, 1].
    """
    if quantiles is None:
        return None
    if not are_quantiles(quantiles):
        raise CheckpointError(f"{source}: reference_quantiles must be 1001 ascending numbers in [0, 1]")
    return np.asarray(quantiles, dtype=np.float64)
