"""The loop over the models that may answer: who is asked, how often, after how long, and what is said in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from routellm_core import ConfigError, ResiliencePolicy
from routellm_core.backends import cooldown, resilience
from routellm_core.backends.caller import aopened, opened
from routellm_core.backends.cooldown import CoolDowns
from routellm_core.backends.resilience import Course, Rung, arun, run
from routellm_core.errors import BackendError
from routellm_core.providers.errors import timed_out

RUNGS = [Rung("strong", "big"), Rung("weak", "small")]


def failing(status: int, retry_after: float | None = None, **facts: Any) -> BackendError:
    error = BackendError(
        f"status {status}", model="m", status_code=status, retryable=status in (429, 502, 503), retry_after=retry_after
    )
    vars(error).update(facts)
    return error


class Script:
    """Answers as told, model by model; remembers who was asked, and the waits in between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[Any]) -> None:
        self.asked: list[str] = []
        self.waits: list[float] = []
        self._answers = answers

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        monkeypatch.setattr(resilience.time, "sleep", self.waits.append)
        monkeypatch.setattr(resilience.asyncio, "sleep", sleep)

    def __call__(self, rung: Rung) -> tuple[Any, Any]:
        self.asked.append(rung.name)
        answer = self._answers[rung.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, tuple) else (answer, None)


Go = Callable[..., tuple[Any, Rung]]


@pytest.fixture(params=["blocking", "asynchronous"])
def go(request: pytest.FixtureRequest) -> Go:
    def started(
        script: Script, rungs: list[Rung] = RUNGS, downs: CoolDowns | None = None, **policy: Any
    ) -> tuple[Any, Rung]:
        used = ResiliencePolicy(**policy)
        course: Course[Any] = Course(rungs, used, downs or used.cool_downs())
        if request.param == "blocking":
            return run(course, script)

        async def call(rung: Rung) -> tuple[Any, Any]:
            return script(rung)

        return asyncio.run(arun(course, call))

    return started


def test_a_model_that_answers_is_asked_once(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=["hi"])
    assert go(script) == ("hi", RUNGS[0])
    assert script.asked == ["big"]


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=[failing(503), failing(429), failing(502), "hi"])
    assert go(script, attempts=4, wait_initial=1.0, wait_max=3.0, cooldown_after=0)[0] == "hi"
    assert script.asked == ["big"] * 4
    assert 1.0 <= script.waits[0] <= 1.5
    assert 2.0 <= script.waits[1] <= 2.5
    assert script.waits[2] == 3.0


def test_the_provider_says_how_long_to_wait(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=[failing(503, 0.25), "hi"])
    go(script, wait_max=8.0)
    assert script.waits == [0.25]


def test_a_wait_that_is_too_long_is_spent_at_the_other_model(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=[failing(429, 60.0)], small=["hi"])
    assert go(script, attempts=5)[1].name == "small"
    assert (script.asked, script.waits) == (["big", "small"], [])
    alone = Script(monkeypatch, big=[failing(429, 60.0), "hi"])
    assert go(alone, RUNGS[:1], wait_max=8.0)[0] == "hi"
    assert alone.waits == [8.0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (timed_out("m", 1.0), ["big", "small"]),
        (TimeoutError(), ["big", "small"]),
        (failing(402), ["big", "small"]),
        (failing(404), ["big", "small"]),
        (failing(413), ["big", "small"]),
        (failing(400, fits_elsewhere=True), ["big", "small"]),
        (failing(400), ["big"]),
        (failing(401), ["big"]),
        (failing(403), ["big"]),
        (KeyError("a mistake in the program"), ["big"]),
        (ConnectionResetError(), ["big", "big", "small"]),
        (failing(503), ["big", "big", "small"]),
    ],
)
def test_the_three_kinds_of_failure(
    go: Go, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: list[str]
) -> None:
    script = Script(monkeypatch, big=[error, error], small=["hi"])
    if len(expected) == 1:
        with pytest.raises(type(error)) as caught:
            go(script)
        assert caught.value is error
    else:
        assert go(script) == ("hi", RUNGS[1])
    assert script.asked == expected


def test_the_statuses_that_move_are_configurable(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=[failing(401)], small=["hi"])
    assert go(script, statuses=[401])[1].name == "small"
    with pytest.raises(BackendError):
        go(Script(monkeypatch, big=[failing(402)]), statuses=())
    assert ResiliencePolicy(statuses=[401]) == ResiliencePolicy(statuses=(401,))
    for wrong in ([200], ["401"]):
        with pytest.raises(ConfigError, match="statuses"):
            ResiliencePolicy(statuses=wrong)  # type: ignore[arg-type]


def test_empty_answers_move_and_filtered_ones_only_when_told_to(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    for emptiness, policy, expected in [
        ("empty", {}, "small"),
        ("empty", {"empty_answers": False}, "big"),
        ("filtered", {}, "big"),
        ("filtered", {"filtered_answers": True}, "small"),
    ]:
        script = Script(monkeypatch, big=[("nothing", emptiness)], small=["hi"])
        assert go(script, **policy)[1].name == expected


def test_an_empty_answer_is_better_than_an_error(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, big=[("nothing", "empty")], small=[failing(401)])
    assert go(script) == ("nothing", RUNGS[0])


def test_when_all_fail_the_error_tells_of_all_and_has_the_first_one_s_status(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(monkeypatch, big=[failing(503)], small=[failing(401)])
    with pytest.raises(BackendError, match=r"both models failed: status 503; then status 401") as caught:
        go(script, attempts=1)
    assert (caught.value.status_code, caught.value.should_retry) == (503, None)


def test_both_too_busy_is_one_clear_answer(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    downs = ResiliencePolicy().cool_downs()
    script = Script(monkeypatch, big=[failing(429, 40.0)], small=[failing(429, 30.0)])
    for _ in range(3):
        with pytest.raises(BackendError) as caught:
            go(script, downs=downs)
        assert (caught.value.status_code, caught.value.should_retry) == (429, False)
        assert caught.value.retry_after == pytest.approx(30.0, abs=1)
    assert script.asked == ["big", "small"]


def test_foreign_errors_come_as_they_are_with_a_note_of_the_other(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ConnectionResetError("gone")
    script = Script(monkeypatch, big=[first], small=[KeyError("x")])
    with pytest.raises(ConnectionResetError) as caught:
        go(script, attempts=1)
    assert caught.value is first
    assert "small, failed too: KeyError" in caught.value.__notes__[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(cooldown.time, "monotonic", lambda: now[0])
    return now


def test_a_model_that_keeps_failing_is_passed_over_and_then_tried_by_one_request(
    go: Go, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    policy: dict[str, Any] = {"attempts": 1, "cooldown_after": 3, "cooldown_seconds": 30.0}
    downs = ResiliencePolicy(**policy).cool_downs()
    script = Script(monkeypatch, big=[failing(503)] * 4 + ["back"] * 2, small=["hi"] * 20)

    def asked() -> list[str]:
        script.asked.clear()
        go(script, downs=downs, **policy)
        return list(script.asked)

    assert [asked() for _ in range(3)] == [["big", "small"]] * 3
    assert [asked() for _ in range(3)] == [["small"]] * 3
    assert downs.cooling() == {"strong": 30.0}
    clock[0] += 31
    assert asked() == ["big", "small"]  # the one that tries, without success
    assert asked() == ["small"]
    clock[0] += 31
    assert [asked(), asked()] == [["big"], ["big"]]
    assert downs.cooling() == {}


def test_while_one_request_tries_a_model_the_others_go_on_passing_it_over(clock: list[float]) -> None:
    policy = ResiliencePolicy(cooldown_after=1)
    downs = policy.cool_downs()
    downs.failed("strong", 503, None)
    clock[0] += 31
    first: Course[Any] = Course(RUNGS, policy, downs)
    second: Course[Any] = Course(RUNGS, policy, downs)
    assert (first.rung.name, second.rung.name) == ("big", "small")
    assert "passed over" in str(second.passed_over[0])


def test_a_model_that_is_cooling_down_is_asked_once_where_the_other_fails(
    go: Go, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    downs = ResiliencePolicy(cooldown_after=1).cool_downs()
    downs.failed("strong", 503, None)
    script = Script(monkeypatch, big=[failing(503)], small=[failing(503), failing(503)])
    with pytest.raises(BackendError, match="both models failed"):
        go(script, downs=downs, cooldown_after=1, attempts=2)
    assert script.asked == ["small", "big"]  # the other one is as dead after its first failure


def test_what_is_the_request_s_fault_does_not_cool_a_model_down(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (failing(400, fits_elsewhere=True), failing(413)):
        downs = ResiliencePolicy(cooldown_after=1).cool_downs()
        script = Script(monkeypatch, big=[error], small=["hi"])
        go(script, downs=downs, cooldown_after=1)
        assert downs.cooling() == {}


def test_cool_downs_can_be_off(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    downs = ResiliencePolicy(cooldown_after=0).cool_downs()
    script = Script(monkeypatch, big=[failing(503)] * 5, small=["hi"] * 5)
    for _ in range(5):
        go(script, downs=downs, cooldown_after=0, attempts=1)
    assert script.asked == ["big", "small"] * 5


class Words:
    """A transport whose pieces are words; a lower-case one is content."""

    def is_content(self, piece: str) -> bool:
        return piece.islower()

    def emptiness(self, answer: Any) -> Any:
        return "filtered" if "FILTER" in answer else "empty"


class Pieces(Iterator[str]):
    """A stream that tells whether it was closed."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = list(pieces)
        self.is_closed = False

    def __next__(self) -> str:
        if not self._pieces:
            raise StopIteration
        piece: Any = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return str(piece)

    def close(self) -> None:
        self.is_closed = True

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.close()


def opened_both_ways(pieces: list[Any], seconds: float = 5.0) -> list[tuple[Any, Any]]:
    first, second = Pieces(*pieces), Pieces(*pieces)

    async def read() -> tuple[Any, Any]:
        stream, emptiness = await aopened(second, Words(), name="m")
        return [piece async for piece in stream], emptiness

    stream, emptiness = opened(first, Words(), name="m", seconds=seconds)
    return [(list(stream), emptiness), asyncio.run(read())]


@pytest.mark.parametrize(
    ("pieces", "emptiness"),
    [(["ROLE", "a", "b"], None), (["ROLE", "END"], "empty"), (["ROLE", "FILTER"], "filtered"), (["a"], None)],
)
def test_a_stream_loses_nothing_by_being_opened(pieces: list[str], emptiness: str | None) -> None:
    assert opened_both_ways(pieces) == [(pieces, emptiness)] * 2


def test_a_stream_that_breaks_before_it_said_something_is_closed_and_raises() -> None:
    broken = Pieces("ROLE", failing(503))
    with pytest.raises(BackendError, match="503"):
        opened(broken, Words(), name="m", seconds=5)
    assert broken.is_closed
    with pytest.raises(BackendError, match="empty stream"):
        opened(Pieces(), Words(), name="m", seconds=5)


def test_a_stream_that_only_keeps_alive_runs_out_of_time() -> None:
    with pytest.raises(BackendError, match="did not begin to answer within 0 s") as caught:
        opened(Pieces(*["KEEP"] * 5), Words(), name="m", seconds=0)
    assert caught.value.is_timeout


def test_a_stream_can_be_closed_before_it_is_begun() -> None:
    pieces = Pieces("a", "b")
    stream: Any = opened(pieces, Words(), name="m", seconds=5)[0]
    stream.close()
    assert pieces.is_closed
    assert list(stream) == []

    async def leave() -> None:
        other = Pieces("a", "b")
        begun: Any = (await aopened(other, Words(), name="m"))[0]
        await begun.aclose()
        assert other.is_closed

    asyncio.run(leave())


def test_a_model_that_was_asked_for_is_asked_although_it_is_cooling_down():
    downs = ResiliencePolicy(cooldown_after=1).cool_downs()
    downs.failed("weak", 503, None)
    rungs = [Rung("weak", "small"), Rung("strong", "big")]
    policy = ResiliencePolicy()
    assert Course(rungs, policy, downs).rung.key == "strong"
    assert Course(rungs, policy, downs, is_bound=True).rung.key == "weak"
