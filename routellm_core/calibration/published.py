"""Thresholds from scores that somebody published, as RouteLLM's script takes them."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from routellm_core.errors import ConfigError
from routellm_core.routers.registry import router_class
from routellm_core.rows.sources import RowSource, hub_or_path

PUBLISHED_THRESHOLDS = "routellm/lmsys-arena-human-preference-55k-thresholds"
"""RouteLLM's scores of its published checkpoints on Chatbot Arena prompts, one column per router."""
_PUBLISHED_OWNER = "routellm/"


def is_published(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a router is configured as RouteLLM published it, found out without loading gigabytes of weights."""
    if "strong_model" in options or "weak_model" in options:
        return False
    default = signature(router_class(name)).parameters.get("checkpoint_path")
    named = [options.get("checkpoint_path", default.default if default else None)]
    named += options.get("arena_battle_datasets") or []
    return any(isinstance(item, str) and item.startswith(_PUBLISHED_OWNER) for item in named)


def published_threshold(name: str, source: str, share: float) -> float:
    """Return the quantile of published scores that RouteLLM would take, interpolated linearly.

    ``source`` is a file or a data set on the Hub, ``owner/name``, with a column of scores per router.

    Raises:
        ConfigError: the source cannot be read, or has no such column of numbers in [0, 1].
    """
    rows = RowSource.parse(hub_or_path(source))
    scores = []
    for place, row in rows.rows([name]):
        if not isinstance(row, Mapping) or name not in row:
            raise ConfigError(f"{place}: no column {name!r} with the router's scores")
        try:
            scores.append(float(row[name]))
        except (TypeError, ValueError):
            scores.append(float("nan"))
    values = np.array(scores)
    if not len(values) or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ConfigError(f"{rows.name}: column {name!r} must hold scores in [0, 1]")
    return float(np.quantile(values, 1.0 - share))
