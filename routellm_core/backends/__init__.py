"""Backends: how the chosen model is called."""

from routellm_core.backends.base import ChatBackend, ModelSettings

__all__ = ["ChatBackend", "ModelSettings"]
