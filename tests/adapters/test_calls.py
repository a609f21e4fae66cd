"""The one fallback of the adapters, over a toy framework whose answers are strings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from routellm_core import BackendError, ModelSettings, ResiliencePolicy
from routellm_core.adapters import AdapterRequest, Attempt, RoutedCall, Routing, build_routing, mark_failure, record_of
from routellm_core.errors import ConfigError
from routellm_core.providers.events import Emptiness
from routellm_core.testing import FixedScoreRouter
from routellm_core.turns import Turn

HARD, EASY = "Prove the hard lemma, in every detail of it", "Say how a cat sits, in one short sentence"
ROUTER = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.05)
ONCE = ResiliencePolicy(attempts=1, wait_initial=0, wait_max=0)


class Model:
    """Answers with its name, or raises what it was told; ``pieces`` is what it streams."""

    def __init__(self, name: str, *errors: Exception, pieces: Sequence[Any] = ()) -> None:
        self.name, self.errors, self.pieces, self.calls = name, list(errors), pieces, 0

    def answer(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.name

    def stream(self) -> Iterator[str]:
        self.calls += 1
        for piece in self.pieces or (self.name,):
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Reading:
    """What strings say: white space is nothing."""

    def is_content(self, piece: str) -> bool:
        return bool(piece.strip())

    def emptiness(self, answer: Any) -> Emptiness | None:
        return None if "".join(answer).strip() else "empty"

    def marks(self, piece: str) -> bytes:
        return b'{"id": "call_9"}' if "call" in piece else b""


def routing(strong: Any = None, weak: Any = None, **options: Any) -> Routing[Model]:
    given = {"strong": strong or Model("big"), "weak": weak or Model("small"), "router": ROUTER, "threshold": 0.5}
    return build_routing(
        {"resilience": ONCE, **given, **options},
        build_model=lambda _tier, spec: spec if isinstance(spec, Model) else Model(getattr(spec, "model", spec)),
        settings_of=lambda _spec, model: ModelSettings(model=model.name),
    )


def request(text: str = HARD, **options: Any) -> AdapterRequest:
    return AdapterRequest(Turn.of([{"role": "user", "content": text}]), **options)


async def both(built: Routing[Model], asked: AdapterRequest, **options: Any) -> list[Any]:
    """Make the call in the blocking and in the asynchronous way; return (answer, decision) of each."""

    async def attempt(made: Attempt) -> Any:
        return built.models[made.tier].answer(), made.decision

    class Pairs(Reading):
        def emptiness(self, answer: Any) -> Emptiness | None:
            return super().emptiness(answer[0])

        def marks(self, piece: Any) -> bytes:
            return super().marks(piece[0])

    call = RoutedCall(built, asked, Pairs(), **options)
    return [
        call.run(lambda made: (built.models[made.tier].answer(), made.decision)),
        await call.arun(attempt),
    ]


def failed(status: int, **fields: Any) -> BackendError:
    error = BackendError(f"status {status}", model="m", status_code=status, retryable=status >= 500)
    vars(error).update(fields)
    return error


@pytest.mark.parametrize(
    "error",
    [failed(503), failed(402), failed(404), failed(413), failed(400, fits_elsewhere=True), TimeoutError()],
    ids=str,
)
async def test_the_other_model_is_asked(error: Exception) -> None:
    strong = Model("big", error, error)
    for answer, decision in await both(routing(strong, cool_downs=None), request()):
        assert (answer, decision.tier, decision.fallback_from) == ("small", "weak", "big")
    assert strong.calls == 2


@pytest.mark.parametrize("error", [failed(400), failed(401), ValueError("a mistake")], ids=str)
async def test_what_would_fail_again_is_raised_as_it_is(error: Exception) -> None:
    weak = Model("small")
    with pytest.raises(type(error)) as raised:
        await both(routing(Model("big", error), weak), request())
    assert raised.value is error
    assert weak.calls == 0


async def test_only_those_named_are_asked_again() -> None:
    policy = ResiliencePolicy(attempts=2, wait_initial=0, wait_max=0)
    strong = Model("big", failed(503))
    built = routing(strong, resilience=policy)
    assert [answer for answer, _ in await both(built, request(), retried=["strong"])] == ["big", "big"]
    strong.errors = [failed(503)]
    assert [answer for answer, _ in await both(built, request())] == ["small", "big"]


async def test_an_empty_answer_moves_and_is_better_than_an_error() -> None:
    assert [answer for answer, _ in await both(routing(Model(" ")), request())] == ["small"] * 2
    only_empty = routing(Model(" "), Model("small", failed(503), failed(503)))
    assert [answer for answer, _ in await both(only_empty, request())] == [" ", " "]


@pytest.mark.parametrize("pieces", [[failed(503)], [" ", failed(503)], [" "], [" ", TimeoutError()]])
async def test_a_stream_that_says_nothing_moves(pieces: list[Any]) -> None:
    built = routing(Model("big", pieces=pieces))

    async def astream(made: Attempt) -> AsyncIterator[str]:
        for piece in built.models[made.tier].stream():
            yield piece

    call = RoutedCall(built, request(), Reading())
    assert list(call.stream(lambda made: built.models[made.tier].stream())) == ["small"]
    assert [piece async for piece in await call.astream(astream)] == ["small"]


def test_a_stream_that_began_is_not_replaced() -> None:
    built = routing(Model("big", pieces=["Yes", failed(503)]))
    read = RoutedCall(built, request(), Reading()).stream(lambda made: built.models[made.tier].stream())
    assert next(read) == "Yes"
    with pytest.raises(BackendError):
        next(read)


def test_what_began_a_turn_ends_it_by_its_records_and_by_memory() -> None:
    built = routing()
    question = {"role": "user", "content": HARD}
    decision = built.select(request(model="weak"))
    made = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_9"}]}
    result = {"role": "tool", "tool_call_id": "call_9", "content": "x"}
    follow = Turn.of([question, made, result])
    kept = built.select(AdapterRequest(follow, records=[None, {"other": 1}, record_of(decision)]))
    assert (kept.tier, kept.reason) == ("weak", "the turn stays on the weak model, which is answering it")
    assert built.select(AdapterRequest(follow, model="strong", records=[record_of(decision)])).tier == "strong"
    assert built.select(AdapterRequest(follow)).tier == "strong", "nobody recorded it"
    RoutedCall(built, AdapterRequest(Turn.of([question]), model="weak"), Reading()).run(lambda _: "call")
    assert built.select(AdapterRequest(follow)).tier == "weak"


def test_records_of_others_are_passed_over() -> None:
    built = routing()
    record = record_of(built.select(request(model="weak")))
    for other in ({**record, "router": "mf"}, {**record, "model": "another"}, {**record, "tier": "tier-2"}, "north", 3):
        assert built.kept(request(records=[other])) is None
    assert built.kept(request(records=[{**record, "model": "another", "inner": {}}])) is not None


def test_nested_records_are_one() -> None:
    outer, inner = routing().select(request()), routing().select(request(EASY))
    record = record_of(outer, record_of(inner))
    assert (record["tier"], record["model"], record["inner"]["tier"]) == ("strong", "small", "weak")
    assert record_of(outer, record) == record, "written twice"


def test_many_are_scored_together() -> None:
    router = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.05)
    built = routing(router=router)
    asked = [request(HARD), request(EASY), request(EASY, threshold=0.01), request(HARD, model="weak")]
    assert [decision.tier for decision in built.select_batch(asked)] == ["strong", "weak", "strong", "weak"]
    assert [len(batch) for batch in router.batches] == [2, 1]


def test_building_again_keeps_what_did_not_change() -> None:
    def again(**options: Any) -> Routing[Model]:
        return build_routing(
            {**first.given, **options},
            build_model=lambda _tier, spec: Model(spec),
            settings_of=lambda _spec, model: ModelSettings(model=model.name),
            previous=first,
        )

    first = routing()
    same = again(threshold=0.2)
    assert same.selector.router is first.selector.router
    assert same.selector.memory is first.selector.memory
    assert same.cool_downs is first.cool_downs
    assert (same.models["strong"], same.models["weak"]) == (first.models["strong"], first.models["weak"])
    other = again(weak="other")
    assert (other.pair.weak, other.models["strong"] is first.models["strong"]) == ("other", True)
    assert other.cool_downs is not first.cool_downs
    assert not again(strong="one", weak="one").has_other, "nobody else to ask"
    with pytest.raises(ConfigError, match="resilience must be a ResiliencePolicy, got str"):
        again(resilience="yes")
    with pytest.raises(ConfigError, match="extract must be a function"):
        again(extract="text")


def test_foreign_errors_are_marked() -> None:
    class APITimeoutError(Exception):
        status_code = 408

    class BadRequestError(Exception):
        status_code = 400

    assert mark_failure(APITimeoutError("slow"), "m").is_timeout  # type: ignore[attr-defined]
    assert mark_failure(BadRequestError("maximum context length is 9"), "m").fits_elsewhere  # type: ignore[attr-defined]
    assert not hasattr(mark_failure(ValueError("x"), "m"), "is_timeout")


async def test_both_failing_is_one_error_whatever_a_framework_wrote_on_them() -> None:
    one, two = failed(503, event_added=True, retry_after=7.0), failed(500)
    with pytest.raises(BackendError, match=r"both models failed: status 503; then status 500") as raised:
        await both(routing(Model("big", one), Model("small", two)), request())
    assert (raised.value.status_code, raised.value.retry_after) == (503, 7.0)
    assert not hasattr(raised.value, "event_added")
