"""Backends: how the chosen model is called, and what happens when it fails."""

from routellm_core.backends.base import ChatBackend, ModelSettings
from routellm_core.backends.resilience import ResiliencePolicy

__all__ = ["ChatBackend", "ModelSettings", "ResiliencePolicy"]
