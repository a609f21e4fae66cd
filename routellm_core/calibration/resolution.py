"""From what a caller asked for (0.116, ``"50%"``) to a threshold. This is the only place that does it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from routellm_core.calibration.quantiles import share_at_threshold, threshold_for_share
from routellm_core.calibration.saved import Calibration
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import CalibrationError, InvalidThresholdError
from routellm_core.routers.base import Router

logger = logging.getLogger(__name__)

CalibrationSource: TypeAlias = Calibration | str | Path
"""A calibration, or the file it is kept in."""
_MISSED = 0.02


def resolve_threshold(
    threshold: float | str | StrongShare, router: Router, calibration: Calibration | None = None
) -> float:
    """Return the threshold in [0, 1] that a router's scores are compared with.

    Args:
        threshold: a number in [0, 1], which is taken as it is, or a share of strong calls such as ``"50%"``.
        router: whose scores.
        calibration: gives the score quantiles of one's own traffic; without it the checkpoint's reference quantiles
            are taken.

    Raises:
        InvalidThresholdError: neither a number in [0, 1] nor a share; or a share, and nothing to resolve it by.
        CalibrationError: the calibration belongs to another router or checkpoint.
    """
    parsed = parse_threshold(threshold)
    if calibration is not None:
        calibration.check(router)
    if not isinstance(parsed, StrongShare):
        return parsed
    quantiles = router.reference_quantiles if calibration is None else calibration.quantiles
    if quantiles is None:
        raise InvalidThresholdError(
            f"threshold '{parsed}' is a share of strong calls, but the router {router.name!r} has no reference "
            f"quantiles to find its threshold by. Calibrate it on prompts of your own with `routellm calibrate "
            f"--routers {router.name} --prompts my.jsonl --strong-model-pct {parsed.share:g} --save calibration.json`, "
            "and pass calibration='calibration.json'; or give the threshold as a number"
        )
    resolved = threshold_for_share(quantiles, parsed.share)
    expected = share_at_threshold(quantiles, resolved)
    if abs(expected - parsed.share) > _MISSED:
        logger.warning(
            "router %s cannot make a share of %s, for many prompts have the same score; threshold %g should make %s",
            router.name,
            parsed,
            resolved,
            f"{expected:.1%}",
        )
    return resolved


def fitting_calibration(source: CalibrationSource | None, router: Router) -> Calibration | None:
    """Return a calibration for ``router``, read from its file where ``source`` is one; None stays None.

    Raises:
        CalibrationError: the file is unreadable, or the calibration belongs to another router or checkpoint.
    """
    if source is None:
        return None
    calibration = source if isinstance(source, Calibration) else Calibration.load(source)
    calibration.check(router)
    return calibration


def calibrations_by_router(
    sources: CalibrationSource | Sequence[CalibrationSource] | None, routers: Mapping[str, Router]
) -> dict[str, Calibration]:
    """Assign calibrations to the routers that they are for.

    Args:
        sources: one or several. Those for routers that are not loaded are passed over, as long as one fits.
        routers: the loaded routers by name.

    Raises:
        CalibrationError: a file is unreadable, none is for a loaded router, or one is for another checkpoint.
    """
    if sources is None:
        return {}
    given = [sources] if isinstance(sources, (Calibration, str, Path)) else sources
    loaded = [source if isinstance(source, Calibration) else Calibration.load(source) for source in given]
    found: dict[str, Calibration] = {}
    for name, router in routers.items():
        mine = [calibration for calibration in loaded if calibration.router == router.name]
        if mine:
            fitting = [calibration for calibration in mine if calibration.fingerprint == router.fingerprint]
            if not fitting:
                mine[0].check(router)  # raises, with both fingerprints
            found[name] = fitting[0]
    if loaded and not found:
        raise CalibrationError(
            f"the calibration given is for {', '.join(sorted({item.router for item in loaded}))}, but the routers "
            f"loaded here are {', '.join(routers)}"
        )
    return found
