"""Model names that carry a routing request: ``router-[name]-[threshold]``, as in ``router-mf-0.116``.

The threshold may be a share of strong calls instead: ``router-mf-50%``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import RoutingError

__all__ = ["RouterModelName", "format_model_name", "parse_model_name"]

# The router's own name may hold hyphens, and so may the threshold: a sign, or an exponent as in 1e-05.
_PATTERN = re.compile(r"router-(?P<router>.+?)-(?P<threshold>-?(?:[\d.]+[eE]-)?[^-]+)")


@dataclass(frozen=True, slots=True)
class RouterModelName:
    """The router and threshold that a model name asks for."""

    router: str
    threshold: float | StrongShare


def parse_model_name(model: str) -> RouterModelName:
    """Parse ``router-[name]-[threshold]``.

    Raises:
        RoutingError: the name is not of this form.
        InvalidThresholdError: its last part is neither a number in [0, 1] nor a percentage.
    """
    match = _PATTERN.fullmatch(model) if isinstance(model, str) else None
    if match is None:
        raise RoutingError(
            f"invalid model {model!r}: expected 'router-[router name]-[threshold]', for example 'router-mf-0.116'"
        )
    return RouterModelName(router=match["router"], threshold=parse_threshold(match["threshold"]))


def format_model_name(router: str, threshold: float | str | StrongShare) -> str:
    """Write the name that :func:`parse_model_name` reads back to the same values."""
    parsed = parse_threshold(threshold)
    return f"router-{router}-{parsed if isinstance(parsed, StrongShare) else repr(parsed)}"
