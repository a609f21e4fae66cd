"""Which foreign errors are worth asking the other model about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from routellm_core.errors import BackendError
from routellm_core.providers.errors import is_retryable


class Foreign(Exception):
    def __init__(self, **attributes: Any) -> None:
        super().__init__("foreign")
        vars(self).update(attributes)


class APIConnectionError(Exception):
    """Named as the OpenAI SDK's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackendError("x", model="m", status_code=400, retryable=True), True),
        (BackendError("x", model="m", status_code=503, retryable=False), False),
        (Foreign(status_code=429), True),
        (Foreign(status_code=500), True),
        (Foreign(status_code=400), False),
        (Foreign(code=503), True),
        (Foreign(code="rate_limit"), False),
        (Foreign(response=SimpleNamespace(status_code=408)), True),
        (Foreign(response={"ResponseMetadata": {"HTTPStatusCode": 503}}), True),
        (APIConnectionError(), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (KeyError("mistake"), False),
    ],
)
def test_is_retryable(error: Exception, expected: bool) -> None:
    assert is_retryable(error) is expected
