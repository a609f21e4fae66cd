"""A calibration kept in a file, so that ``threshold="50%"`` means the same traffic everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from routellm_core._publish import publish_file
from routellm_core.calibration.quantiles import checked_quantiles, score_quantiles, threshold_for_share
from routellm_core.calibration.results import CalibratedThreshold
from routellm_core.errors import CalibrationError
from routellm_core.routers.base import Router

__all__ = ["Calibration"]

_FORMAT = "routellm-calibration/1"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learned about one router on one traffic.

    Attributes:
        router: the router's name.
        fingerprint: the router's, which names its checkpoint; scores of another one are not comparable.
        data: what the prompts were, in one line.
        sample_size: number of prompts.
        created: date and time in UTC, as ISO 8601.
        quantiles: the scores' quantiles 0, 1/1000, …, 1.
        result: the threshold that was asked for, with its intervals, or None where only the scores were measured.
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

    def threshold_for(self, share: float) -> float:
        """Return the threshold for a share of strong calls in [0, 1] of this traffic."""
        return threshold_for_share(self.quantiles, share)

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
