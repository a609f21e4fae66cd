"""Imports of optional third-party packages, with an error that names the extra to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from routellm_core.errors import MissingExtraError


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import ``module`` or say which extra provides it.

    Args:
        module: dotted name of a third-party module.
        extra: the extra of ``routellm-core`` that installs it.
        purpose: what needs it, as the subject of a sentence ("The MiniLM embedder").

    Raises:
        MissingExtraError: the package is not installed. An import that fails for another reason (a missing
            dependency *of* that package, a broken build) is not disguised and propagates.
    """
    try:
        loaded: ModuleType = import_module(module)
    except ModuleNotFoundError as error:
        top_level = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] == top_level:
            raise MissingExtraError(top_level, extra, purpose) from error
        raise
    return loaded
