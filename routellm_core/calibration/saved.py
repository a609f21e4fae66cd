"""A calibration kept in a file, so that ``threshold="50%"`` means the same traffic everywhere.

Here alone becomes what a caller asked for (0.116, ``"50%"``) a threshold.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from routellm_core._publish import publish_file
from routellm_core.calibration.ranking import (
    checked_quantiles,
    score_quantiles,
    share_at_threshold,
    threshold_for_share,
)
from routellm_core.calibration.results import CalibratedThreshold
from routellm_core.decision import StrongShare, parse_threshold
from routellm_core.errors import CalibrationError, InvalidThresholdError
from routellm_core.routers.base import Router

_FORMAT = "routellm-calibration/1"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learned about one router on one traffic.

    Attributes:
        fingerprint: the router's, which names its checkpoint; scores of another one are not comparable.
        data: what the prompts were, in one line.
        sample_size: number of prompts.
        created: date and time in UTC, as ISO 8601.
        quantiles: the scores' quantiles 0, 1/1000, …, 1.
        result: the threshold that was asked for, or None where only the scores were measured.
    """

    router: str
    fingerprint: str
    data: str
    sample_size: int
    created: str
    quantiles: tuple[float, ...]
    result: CalibratedThreshold | None = None

    def __post_init__(self) -> None:
        checked_quantiles(self.quantiles)

    @classmethod
    def of(
        cls, router: Router, scores: npt.ArrayLike, *, data: str, result: CalibratedThreshold | None = None
    ) -> Calibration:
        """Summarise a router's scores, shape (n,), on the prompts that ``data`` describes."""
        quantiles = tuple(float(value) for value in score_quantiles(scores))
        created = datetime.now(UTC).isoformat(timespec="seconds")
        size = len(scores) if isinstance(scores, Sequence) else int(getattr(scores, "size", 0))
        return cls(router.name, router.fingerprint, data, size, created, quantiles, result)

    def check(self, router: Router) -> None:
        """Refuse a router whose scores these are not.

        Raises:
            CalibrationError: another router, or another checkpoint or embedder of the same one.
        """
        if self.router != router.name:
            raise CalibrationError(f"this calibration is for the router {self.router!r}, not for {router.name!r}")
        if self.fingerprint != router.fingerprint:
            raise CalibrationError(
                f"this calibration is for another checkpoint of the router {self.router!r}: it was made with "
                f"{self.fingerprint!r}, and this is {router.fingerprint!r}. Load that one, or calibrate this one with "
                f"`routellm calibrate --routers {router.name} --prompts … --save …`"
            )

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON; an existing file is replaced at once or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        publish_file(path, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration.

        Raises:
            CalibrationError: the file is missing, of another format, or not consistent in itself.
        """
        source = Path(path).expanduser()
        try:
            content: Any = json.loads(source.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CalibrationError(f"calibration file {str(source)!r} does not exist") from error
        except (OSError, ValueError) as error:
            raise CalibrationError(f"calibration file {str(source)!r} is not readable as JSON: {error}") from error
        found = content.pop("format", None) if isinstance(content, dict) else None
        if found != _FORMAT:
            raise CalibrationError(
                f"{str(source)!r} is not a calibration file: its format is {found!r}, expected {_FORMAT!r}. "
                "`routellm calibrate --save` writes one"
            )
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise CalibrationError(f"calibration file {str(source)!r}: {place}: {fault['msg']}") from error
        except CalibrationError as error:
            raise CalibrationError(f"calibration file {str(source)!r}: {error}") from error


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
