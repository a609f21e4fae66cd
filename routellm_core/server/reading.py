"""Reading a request's body: its size, its JSON, what it may cost to take apart, and that one body delays nobody else.

What is small is parsed at once. What is large is parsed by one thread, after a look at how many values it holds: a
parser holds Python's lock until it is done, so that a thread alone would not keep the event loop free.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import ClientDisconnect, Request

from routellm_core.server.error_responses import RequestError
from routellm_core.server.request_bodies import Received

__all__ = ["BodyReader"]

_LARGE = 128 * 1024
_MOST_WEIGHT = 2**20
# What a value costs to parse and check, in numbers of a list: a key makes an entry, a bracket a container.
_WEIGHTS = {b",": 1, b"[": 2, b"{": 2, b":": 8}
_SCANNED = 256 * 1024  # bytes in one go
_BODIES_AT_ONCE = 8
_NOT_A_BACKSLASH = re.compile(rb"[^\\]")

_T = TypeVar("_T")
_Kind = TypeVar("_Kind", bound=Received)


class BodyReader:
    """Reads the bodies of one server's requests.

    The bytes of those in progress are bounded, to so many of the longest ones, since each is held until its answer.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="routellm-bodies")
        self.held = 0

    async def read(self, request: Request, kind: type[_Kind], *, limit: int) -> _Kind:
        """Read and check a request's body.

        Args:
            request: the request; its record takes the bytes that are held, which :meth:`release` frees.
            kind: what its body must look like.
            limit: bytes.

        Raises:
            RequestError: too long, no JSON, too many values, or not what ``kind`` asks for; too much is in progress.
        """
        _check_type(request.scope["routellm"].header("content-type"))
        content = await self._content(request, limit)
        return await self.apart(len(content), _parsed, content, kind)

    async def apart(self, length: int, function: Callable[..., _T], *args: Any) -> _T:
        """Return what a function makes of a body; where that is long, the event loop goes on meanwhile."""
        if length <= _LARGE:
            return function(*args)
        # Not to_thread: several of its threads together would keep the event loop from Python's lock.
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args))

    def release(self, held: int) -> None:
        """Free what a request held."""
        self.held -= held

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _content(self, request: Request, limit: int) -> bytes:
        announced = request.scope["routellm"].header("content-length")
        if announced.isdecimal():
            if int(announced) > limit:
                raise _too_long(limit)
            self._hold(request, int(announced), limit)
        pieces, length = [], 0
        try:
            async for piece in request.stream():
                length += len(piece)
                if length > limit:
                    raise _too_long(limit)
                pieces.append(piece)
                self._hold(request, length, limit)
        except ClientDisconnect:
            raise RequestError("the client left while sending", status=499) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, request: Request, length: int, limit: int) -> None:
        record = request.scope["routellm"]
        if length <= record.held:
            return
        more = length - record.held
        if self.held + more > _BODIES_AT_ONCE * limit:
            raise RequestError(
                f"the bodies of requests in progress hold {self.held} bytes; try again",
                status=429,
                code="server_busy",
                retry_after=1.0,
            )
        self.held += more
        record.held += more


def _check_type(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # A page of another origin may send other types to a local server without asking it first.
        raise RequestError(f"Content-Type is {kind!r}; send application/json", status=415)


def _parsed(content: bytes, kind: type[_Kind]) -> _Kind:
    if len(content) > _LARGE and (_weight(content) > _MOST_WEIGHT and _weight_outside_strings(content) > _MOST_WEIGHT):
        raise RequestError(
            f"the body holds too many values; {_MOST_WEIGHT} numbers are the most, and fewer of anything larger",
            code="too_many_values",
        )
    try:
        body = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, got {type(body).__name__}")
    if _has_infinity(body):
        raise RequestError("the body holds a number that is too large, such as 1e999", code="invalid_value")
    try:
        return kind.model_validate(body).keep(body)
    except ValidationError as error:
        raise _fault(error.errors(include_url=False, include_input=False, include_context=False)[0]) from None


def _weight(content: bytes) -> int:
    return sum(weight * content.count(mark) for mark, weight in _WEIGHTS.items())


def _weight_outside_strings(content: bytes) -> int:
    """Return the weight of what is no text, or of enough of it to be too much."""
    weight, start, is_inside = 0, 0, False
    while start < len(content) and weight <= _MOST_WEIGHT:
        end = min(start + _SCANNED, len(content))
        if end < len(content):  # never between a backslash and what it escapes
            found = _NOT_A_BACKSLASH.search(content, end - 1)
            end = found.end() if found else len(content)
        parts = content[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        weight += _weight(b"".join(parts[is_inside::2]))
        is_inside ^= len(parts) % 2 == 0
        start = end
    return weight


def _has_infinity(body: Any) -> bool:
    waiting = [body]
    for value in waiting:  # it grows meanwhile
        if type(value) is dict:
            waiting.extend(value.values())
        elif type(value) is list:
            waiting.extend(value)
        elif type(value) is float and not math.isfinite(value):
            return True
    return False


def _too_long(limit: int) -> RequestError:
    return RequestError(
        f"the body is longer than {limit} bytes, this server's limit", status=413, code="request_too_large"
    )


def _fault(fault: Mapping[str, Any] | ErrorDetails) -> RequestError:
    # pydantic names the branches of a union between the fields: "str", "list[…]", "dict[…]".
    location = [
        part
        for part in fault["loc"]
        if isinstance(part, int)
        or not (part == "str" or part.startswith(("list[", "dict[", "function-", "constrained")))
    ]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if fault["type"] == "missing":
        return RequestError(f"you must provide {path!r}", param=path, code="missing_required_parameter")
    return RequestError(f"invalid {path!r}: {fault['msg']}", param=path, code="invalid_value")
