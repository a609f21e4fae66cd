"""Every error this library raises on purpose.

::

    RouteLLMError
    ├── ConfigError (ValueError)          a setting, file or option is unknown, mistyped or contradictory
    │   ├── CheckpointError               a checkpoint folder is missing, truncated, unsafe or of the wrong shape
    │   └── CalibrationError              a target that the data cannot support, or a calibration of another checkpoint
    ├── OutputError (OSError)             a file or folder could not be written
    ├── MissingExtraError (ImportError)   an optional dependency is not installed; names the extra
    ├── BrokenPackageError (ImportError)  a dependency is installed and fails while it is imported
    ├── RoutingError                      a prompt could not be routed
    │   ├── UnknownRouterError (ValueError)
    │   ├── InvalidThresholdError (ValueError)
    │   ├── UnsupportedPromptError (ValueError)   messages without usable structure or text
    │   ├── UnfittingRequestError (ValueError)    too long, or with something that no model here takes
    │   └── ScoringError                  the router failed or returned something that is not a score
    │       └── EmbeddingError            the embedding behind a score failed
    └── BackendError                      the chosen model could not be called or answered badly

Each message says what was got, what is allowed and what to do. Foreign exceptions are translated where they enter:
embedding and scoring failures in ``embeddings`` and ``selector``, provider failures in ``backends``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BackendError",
    "BrokenPackageError",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "EmbeddingError",
    "InvalidThresholdError",
    "MissingExtraError",
    "OutputError",
    "RouteLLMError",
    "RoutingError",
    "ScoringError",
    "UnfittingRequestError",
    "UnknownRouterError",
    "UnsupportedPromptError",
    "did_you_mean",
    "is_retryable_status",
]


class RouteLLMError(Exception):
    """Root of every error raised on purpose by this library."""


class ConfigError(RouteLLMError, ValueError):
    """A setting, configuration file or constructor option is unknown, mistyped or contradictory."""


class CheckpointError(ConfigError):
    """A checkpoint is missing, truncated, in an unsafe format or of the wrong shape."""


class CalibrationError(ConfigError):
    """A target that the calibration data cannot support, or a saved calibration that does not fit the router.

    Attributes:
        rows_needed: about how many rows of the same kind would support the target; None where none would, or where
            rows are not what is missing.
    """

    def __init__(self, message: str, *, rows_needed: int | None = None) -> None:
        super().__init__(message)
        self.rows_needed = rows_needed


class OutputError(RouteLLMError, OSError):
    """A file or folder could not be written, as on a full disk; what was there before is unchanged."""


class MissingExtraError(RouteLLMError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: the name to install, as in ``pip install 'routellm-core[extra]'``.
    """

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {module!r}, which is not installed. "
            f"Install it with: pip install 'routellm-core[{extra}]'"
        )


class BrokenPackageError(RouteLLMError, ImportError):
    """A dependency fails while it is imported, as with another package in a version that it does not go with."""

    def __init__(self, package: str, error: Exception) -> None:
        cause = " ".join(str(error).split())
        super().__init__(
            f"the package {package!r} cannot be imported ({type(error).__name__}: {cause}). Install it anew with what "
            f"it needs: pip install --upgrade --force-reinstall {package!r}"
        )


class RoutingError(RouteLLMError):
    """A prompt could not be routed."""


class UnknownRouterError(RoutingError, ValueError):
    """A router name that is neither registered nor loaded."""


class InvalidThresholdError(RoutingError, ValueError):
    """A threshold that is not a number in [0, 1]."""


class UnsupportedPromptError(RoutingError, ValueError):
    """Messages that are not in the OpenAI chat format, or that carry nothing to route on."""


class UnfittingRequestError(RoutingError, ValueError):
    """A request that none of the models can take.

    Attributes:
        code: OpenAI's machine-readable cause: ``"context_length_exceeded"`` or ``"unsupported_value"``.
        param: the field at fault.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.param = "messages"


class ScoringError(RoutingError):
    """A router failed, or returned something that is not one finite score in [0, 1] per prompt."""


class EmbeddingError(ScoringError):
    """The embedding that a score depends on could not be computed."""


class BackendError(RouteLLMError):
    """A model call failed.

    Attributes:
        model: the model that was called, as configured.
        status_code: the HTTP status that describes the failure (the provider's own where it sent one; 504 for a
            time-out, 502 for a connection failure or an unreadable answer).
        retryable: whether the same call may succeed later or elsewhere.
        provider: the provider's name where it is known.
        code: the provider's machine-readable error code where it sent one.
        error_type: the provider's kind of error (``invalid_request_error`` …) where it sent one.
        param: the parameter that the provider names as the fault, where it does.
        retry_after: seconds that the provider asked to wait, where it said so.
        is_timeout: whether the model was too slow; it is not asked again for the same request.
        fits_elsewhere: whether the request is too long for this model or asks for what it cannot do, which another
            model may.
        should_retry: False where a client that tries again at once would only be refused again.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        status_code: int,
        retryable: bool,
        provider: str | None = None,
        code: str | None = None,
        error_type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        is_timeout: bool = False,
        fits_elsewhere: bool = False,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.status_code = status_code
        self.retryable = retryable
        self.provider = provider
        self.code = code
        self.error_type = error_type
        self.param = param
        self.retry_after = retry_after
        self.is_timeout = is_timeout
        self.fits_elsewhere = fits_elsewhere
        self.should_retry = should_retry


# 408, 409 and 425 are timing, 429 is load.
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


def is_retryable_status(status: int) -> bool:
    """Return whether the same request can succeed later or elsewhere after this HTTP status; all of 5xx can."""
    return status in _RETRYABLE_STATUSES or status >= 500


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest allowed name, or an empty string when none is near.

    A name that was cut short is nearest to what it begins.
    """
    candidates = list(allowed)
    begun = [candidate for candidate in candidates if len(name) > 2 and candidate.startswith(name)]
    nearest = begun or get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
