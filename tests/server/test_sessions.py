"""Conversations that needed the strong model keep it, told apart by a header or a field of the request."""

from __future__ import annotations

from typing import Any

import pytest

HARD, EASY = "a hard question", "thanks"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``random`` a router that finds hard questions hard."""
    from routellm_core.testing import FixedScoreRouter

    def loaded(_name: str, _options: Any = None) -> FixedScoreRouter:
        return FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)

    monkeypatch.setattr("routellm_core.controller.load_router", loaded)


def tier(running: Any, text: str, headers: dict[str, str] | None = None, **fields: Any) -> str:
    body = {"model": "router-random-0.5", "messages": [{"role": "user", "content": text}], **fields}
    answer: str = running.post("/chat/completions", body, headers=headers or {}).headers["x-routellm-tier"]
    return answer


@pytest.mark.usefixtures("scored")
class TestStickiness:
    @pytest.mark.parametrize(
        "session",
        [
            {"headers": {"x-session-id": "s1"}},
            {"headers": {"X-Session-Affinity": "s2"}},
            {"prompt_cache_key": "s3"},
            {"metadata": {"session_id": "s4"}},
        ],
    )
    def test_a_conversation_keeps_the_strong_model(self, serve: Any, session: dict[str, Any]) -> None:
        running = serve()
        assert tier(running, EASY, **session) == "weak"
        assert tier(running, HARD, **session) == "strong"
        assert tier(running, EASY, **session) == "strong"
        assert tier(running, EASY, headers={"x-session-id": "another"}) == "weak"

    def test_their_order(self, serve: Any) -> None:
        running = serve()
        order: list[dict[str, Any]] = [
            {"headers": {"x-session-id": "id"}},
            {"headers": {"x-session-affinity": "affinity"}},
            {"prompt_cache_key": "cache"},
            {"metadata": {"session_id": "metadata"}},
        ]
        for first in range(4):
            winner, losers = order[first], order[first + 1 :]
            headers = {k: v for given in [*losers, winner] for k, v in given.get("headers", {}).items()}
            fields = {k: v for given in [*losers, winner] for k, v in given.items() if k != "headers"}
            assert tier(running, HARD, headers=headers, **fields) == "strong"
            assert tier(running, EASY, **winner) == "strong"
            assert [tier(running, EASY, **loser) for loser in losers] == ["weak"] * len(losers)

    def test_a_person_is_no_conversation(self, serve: Any) -> None:
        running = serve()
        assert [tier(running, text, user="alice") for text in (HARD, EASY)] == ["strong", "weak"]

    def test_it_can_be_switched_off(self, serve: Any) -> None:
        running = serve(sticky=None)
        session = {"headers": {"x-session-id": "s"}}
        assert [tier(running, text, **session) for text in (HARD, EASY)] == ["strong", "weak"]

    def test_the_other_operations_have_sessions_too(self, serve: Any) -> None:
        running = serve()
        body: dict[str, Any] = {"model": "router-random-0.5"}
        session = {"x-session-id": "s"}
        assert (
            running.post("/responses", {**body, "input": HARD}, headers=session).headers["x-routellm-tier"] == "strong"
        )
        assert running.post("/completions", {**body, "prompt": EASY}, headers=session).headers["x-routellm-tier"] == (
            "strong"
        )
        assert running.post("/completions", {**body, "prompt": EASY}).headers["x-routellm-tier"] == "weak"


@pytest.mark.usefixtures("scored")
def test_a_route_is_decided_without_a_call(serve: Any, upstream: Any) -> None:
    running = serve()
    hard = running.post("/route", {"model": "router-random-0.5", "prompt": HARD})
    assert hard.json() | {"latency_seconds": 0} == {
        "tier": "strong",
        "model": "openai/big",
        "score": 0.9,
        "threshold": 0.5,
        "router": "fixed",
        "reason": "score 0.900 reaches the threshold 0.5",
        "latency_seconds": 0,
    }
    assert hard.headers["x-routellm-tier"] == "strong"
    messages = [
        {"role": "user", "content": HARD},
        {"role": "assistant", "content": "…"},
        {"role": "user", "content": EASY},
    ]
    assert running.post("/route", {"model": "router-random-0.5", "messages": messages}).json()["tier"] == "weak"
    assert running.post("/route", {"prompt": HARD}).json()["threshold"] == 0.116
    assert not upstream.requests
    assert running.metric("routellm_decisions_total", tier="strong", router="fixed") == 2
    assert running.metric("routellm_score_count", router="fixed") == 3
