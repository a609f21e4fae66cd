"""What a checkpoint says about its own scores: ``routing.json`` beside a transformer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_core._files import read_json
from routellm_core.errors import CheckpointError
from routellm_core.routers.sw_ranking.files import checked_quantiles
from routellm_core.types import FloatArray

__all__ = ["ROUTING_FILE", "ScoreReference"]

ROUTING_FILE: Final = "routing.json"


@dataclass(frozen=True, eq=False)
class ScoreReference:
    """What was found beside the weights; published checkpoints have nothing there.

    Attributes:
        quantiles: of the scores on the checkpoint's reference traffic, shape (1001,), or None.
        max_tokens: where prompts were cut in training, or None.
        exact: whether a causal model's score counts only where it would write it; None where nothing is said.
    """

    quantiles: FloatArray | None = None
    max_tokens: int | None = None
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
        try:
            return cls(
                _quantiles(content), _max_tokens(content), None if "exact" not in content else bool(content["exact"])
            )
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error


def _quantiles(content: Mapping[str, Any]) -> FloatArray | None:
    if content.get("reference_quantiles") is None:
        return None
    try:
        return checked_quantiles(np.asarray(content["reference_quantiles"], dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"reference_quantiles must be 1001 ascending numbers in [0, 1]: {error}") from error


def _max_tokens(content: Mapping[str, Any]) -> int | None:
    limit = content.get("max_tokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise CheckpointError(f"max_tokens must be a positive number, got {limit!r:.40}")
    return limit
