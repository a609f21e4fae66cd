"""What the framework adapters share: one way to read options, decide, call with a fallback, and record a decision."""

from __future__ import annotations

from routellm_core.adapters.calls import AnswerReading, Attempt, RoutedCall, mark_failure
from routellm_core.adapters.options import (
    ROUTING_OPTIONS,
    build_routing,
    build_selector,
    check_option_names,
    check_shared_selector,
    resolve_router,
)
from routellm_core.adapters.stamps import RECORD_KEY, is_record, record_of, stood_in
from routellm_core.adapters.turns import AdapterRequest, Routing, selection_options

__all__ = [
    "RECORD_KEY",
    "ROUTING_OPTIONS",
    "AdapterRequest",
    "AnswerReading",
    "Attempt",
    "RoutedCall",
    "Routing",
    "build_routing",
    "build_selector",
    "check_option_names",
    "check_shared_selector",
    "is_record",
    "mark_failure",
    "record_of",
    "resolve_router",
    "selection_options",
    "stood_in",
]
