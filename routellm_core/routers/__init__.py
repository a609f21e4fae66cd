"""The routers, each in one file, found by name through the registry."""

from routellm_core.routers.base import Router, checked_scores
from routellm_core.routers.registry import available_routers, load_router, register_router

__all__ = ["Router", "available_routers", "checked_scores", "load_router", "register_router"]
