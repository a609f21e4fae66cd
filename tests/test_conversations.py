"""Which model has the conversation: within a turn, from turn to turn, and for what only one model can go on with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from routellm_core import BackendError, ModelPair, ModelSelector, ModelSettings, RoutingDecision
from routellm_core.memory import ConversationMemory
from routellm_core.testing import FixedScoreRouter
from routellm_core.turns import Turn, TurnContext, has_open_call, without_state

PAIR = ModelPair(strong="big", weak="small")
HARD = "Prove that this queue is free of deadlocks, whatever the scheduler does"
EASY = "Tell me what the capital of France is, please, in one word"
FAR = 0.05


def score(prompt: str) -> float:
    return 0.9 if "rove" in prompt else FAR if "France" in prompt else 0.4


def selector(**options: Any) -> ModelSelector:
    return ModelSelector(FixedScoreRouter(score=score), PAIR, **{"threshold": 0.5, **options})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str = "Done.") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(number: int = 1, **fields: Any) -> dict[str, Any]:
    made = {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}, **fields}
    return {"role": "assistant", "content": None, "tool_calls": [made]}


def result(number: int = 1) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": "a.py"}


def fallen_back(decision: RoutingDecision) -> RoutingDecision:
    other = "weak" if decision.tier == "strong" else "strong"
    return replace(decision, tier=other, model=PAIR.of(other), fallback_from=decision.model)


class Talk:
    """A conversation with a selector, whose answers are recorded as a caller does."""

    def __init__(self, built: ModelSelector, **context: Any) -> None:
        self.selector = built
        self.context = context
        self.messages: list[dict[str, Any]] = []

    def ask(self, *messages: dict[str, Any], says: dict[str, Any] | None = None, fails: bool = False) -> str:
        self.messages += messages
        turn = Turn.of(self.messages, {"messages": self.messages, **self.context})
        decision = self.selector.select(turn)
        if fails:
            decision = fallen_back(decision)
        said = says or answer()
        self.selector.recorder(turn, decision).saw(json.dumps({"choices": [{"message": said}]}).encode())
        self.messages.append(said)
        return decision.tier


SESSION = {"prompt_cache_key": "s1"}


@pytest.mark.parametrize("sticky", ["auto", "conversation", None])
@pytest.mark.parametrize("context", [SESSION, {}])
@pytest.mark.parametrize("opening", ["hi", "Please list all of my files and say what they are for"])
class TestToolLoops:
    def test_a_loop_stays_with_the_model_that_took_over(self, sticky: Any, context: Any, opening: str) -> None:
        talk = Talk(selector(sticky=sticky), **context)
        assert talk.ask(user(opening), says=call(1)) == "weak"
        assert talk.ask(result(1), says=call(2), fails=True) == "strong"
        assert talk.ask(result(2), says=call(3)) == "strong"
        assert talk.ask(result(3), says=call(4)) == "strong"
        assert talk.ask(result(4)) == "strong"

    def test_downwards_too(self, sticky: Any, context: Any, opening: str) -> None:
        talk = Talk(selector(sticky=sticky), **context)
        assert talk.ask(user(opening), user(HARD), says=call(1), fails=True) == "weak"
        assert talk.ask(result(1)) == "weak"
        assert talk.ask(user(HARD + " Really.")) == "strong"

    def test_a_reminder_or_a_confirmation_within_it_changes_nothing(
        self, sticky: Any, context: Any, opening: str
    ) -> None:
        talk = Talk(selector(sticky=sticky), **context)
        talk.ask(user(opening), says=call(1), fails=True)
        assert talk.ask(result(1), user("<system-reminder>\nProve it.\n</system-reminder>"), says=call(2)) == "strong"
        assert talk.ask(result(2), user("go on"), says=call(3)) == "strong"

    def test_results_as_anthropic_sends_them(self, sticky: Any, context: Any, opening: str) -> None:
        talk = Talk(selector(sticky=sticky), **context)
        made = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]}
        given = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": HARD}]}
        talk.ask(user(opening), says=made, fails=True)
        assert talk.ask(given) == "strong"


def test_calls_of_other_conversations_with_the_same_ids_do_not_count() -> None:
    built = selector()
    one, other = Talk(built, prompt_cache_key="1"), Talk(built, prompt_cache_key="2")
    one.ask(user("hi"), says=call(1), fails=True)
    other.ask(user("hi"), says=call(1))
    assert (one.ask(result(1)), other.ask(result(1))) == ("strong", "weak")


def test_a_loop_that_nobody_remembers_is_decided_by_its_question() -> None:
    assert selector().select([user(HARD), call(), result()]).tier == "strong"
    assert selector().select([user(EASY), call(), result()]).tier == "weak"


def test_what_is_known_of_a_loop_is_not_scored_again() -> None:
    router = FixedScoreRouter(score=score)
    talk = Talk(ModelSelector(router, PAIR, threshold=0.5), **SESSION)
    talk.ask(user(HARD), says=call(1))
    talk.ask(result(1), says=call(2))
    assert router.batches == [[HARD]]


class TestFollowUps:
    def test_they_stay_on_the_strong_model(self) -> None:
        talk = Talk(selector(), **SESSION)
        assert [talk.ask(user(text)) for text in (EASY, HARD, "why?", "Shorten the second paragraph of it")] == [
            "weak",
            *["strong"] * 3,
        ]

    def test_an_easy_question_of_its_own_leaves_and_the_next_does_not_flip_back(self) -> None:
        talk = Talk(selector(), **SESSION)
        assert [talk.ask(user(text)) for text in (HARD, EASY, "Shorten the second paragraph of it")] == [
            "strong",
            "weak",
            "weak",
        ]
        for never in (selector(sticky_release=0), selector(sticky="conversation")):
            talk = Talk(never, **SESSION)
            assert [talk.ask(user(text)) for text in (HARD, EASY)] == ["strong", "strong"]

    def test_off_each_turn_is_decided_afresh(self) -> None:
        talk = Talk(selector(sticky=None), **SESSION)
        assert [talk.ask(user(text)) for text in (HARD, "Shorten the second paragraph of it", HARD)] == [
            "strong",
            "weak",
            "strong",
        ]

    def test_an_idle_conversation_is_forgotten(self) -> None:
        now = [0.0]
        talk = Talk(selector(memory=ConversationMemory(ttl_seconds=60, clock=lambda: now[0])), **SESSION)
        talk.ask(user(HARD))
        now[0] = 59
        assert talk.ask(user("Shorten the second paragraph of it")) == "strong"
        now[0] = 200
        assert talk.ask(user("Shorten the first paragraph of it")) == "weak"

    def test_a_model_that_only_stood_in_is_not_kept(self) -> None:
        talk = Talk(selector(), **SESSION)
        assert talk.ask(user(EASY), fails=True) == "strong"
        assert talk.ask(user("Shorten the second paragraph of it")) == "weak"

    def test_a_failed_scoring_and_a_named_model_are_not_kept(self) -> None:
        built = selector()
        built.select([user(EASY)], session="s", force="strong")
        assert built.select([user(EASY)], session="s").tier == "weak"

    def test_a_switch_has_a_price(self) -> None:
        prices: dict[str, Any] = {"output_cost_per_token": 0.0, "cached_input_cost_per_token": 1e-6}
        models = {
            "strong": ModelSettings(model="big", input_cost_per_token=10e-6, **prices),
            "weak": ModelSettings(model="small", input_cost_per_token=2e-6, **prices),
        }
        talk = Talk(selector(models=models), **SESSION)
        talk.ask(user(HARD), says=answer("word " * 2000))
        # The strong model reads the 2,500 tokens so far from its cache for less than the weak one reads them anew.
        assert talk.ask(user(EASY)) == "strong"
        talk.selector = selector(models=models, sticky=None, memory=talk.selector.memory)
        decision = talk.selector.select(Turn.of([*talk.messages, user(EASY)], SESSION))
        switch = decision.details["switch"]
        assert (decision.tier, switch["from"], switch["from_tier"]) == ("weak", "big", "strong")
        assert switch["dollars"] == pytest.approx(switch["tokens"] * 1e-6)


class TestWhoseConversationItIs:
    @pytest.mark.parametrize(
        ("parameters", "headers", "session"),
        [
            ({}, {"x-session-id": "a", "x-session-affinity": "b"}, "a"),
            ({"prompt_cache_key": "c"}, {"x-session-affinity": "b"}, "b"),
            ({"prompt_cache_key": "c", "metadata": {"session_id": "d"}}, {}, "c"),
            ({"metadata": {"session_id": "d", "thread_id": "e"}}, {}, "d"),
            ({"metadata": {"thread_id": "e"}}, {}, "e"),
            ({"metadata": {"user_id": "user_8f_account__session_0a1b2c3d-4e5f"}}, {}, "0a1b2c3d-4e5f"),
            ({"conversation": {"id": "conv_1"}}, {}, "conv_1"),
            ({"conversation": "conv_1"}, {}, "conv_1"),
            ({"user": "alice", "safety_identifier": "alice", "metadata": {"user_id": "alice"}}, {}, None),
            ({"metadata": "not a mapping", "prompt_cache_key": ""}, {"x-session-id": ""}, None),
        ],
    )
    def test_by_what_clients_send(self, parameters: Any, headers: Any, session: str | None) -> None:
        assert TurnContext.of(parameters, headers=headers).session == session
        assert TurnContext.of(parameters, headers=headers, session="given").session == "given"

    def test_a_person_is_no_conversation(self) -> None:
        built = selector()
        Talk(built, user="alice").ask(user(HARD))
        assert Talk(built, user="alice").ask(user("hi"), answer(), user("Shorten this paragraph for me")) == "weak"

    def test_hi_does_not_pin_everybody(self) -> None:
        built = selector()
        assert Talk(built).ask(user("Hi"), answer(), user(HARD)) == "strong"
        assert Talk(built).ask(user("Hi"), answer(), user("Shorten this paragraph for me")) == "weak"

    def test_a_distinctive_opening_tells_conversations_apart(self) -> None:
        built = selector()
        mine = Talk(built)
        assert mine.ask(user(EASY + ", says Alice"), answer(), user(HARD)) == "strong"
        assert mine.ask(user("Shorten this paragraph for me")) == "strong"
        other = Talk(built)
        assert other.ask(user(EASY + ", says Bob"), answer(), user("Shorten this paragraph for me")) == "weak"

    def test_clients_do_not_share_conversations(self) -> None:
        built = selector()
        hard = Turn.of([user(HARD)], {}, session="1", client="alice")
        easy = [user(HARD), answer(), user("Shorten this paragraph for me")]
        assert built.select(hard).tier == "strong"
        assert built.select(Turn.of(easy, {}, session="1", client="bob")).tier == "weak"
        assert built.select(Turn.of(easy, {}, session="1", client="alice")).tier == "strong"

    def test_nothing_readable_is_kept(self) -> None:
        memory = ConversationMemory()
        talk = Talk(selector(memory=memory), prompt_cache_key="secret-session")
        talk.ask(user(HARD + " secret"), says=call(1))
        assert memory._store._entries  # type: ignore[attr-defined]
        assert "secret" not in repr(memory._store._entries)  # type: ignore[attr-defined]


class TestStateAtAProvider:
    def test_a_request_goes_to_the_model_that_gave_the_response_it_refers_to(self) -> None:
        built = selector()
        first = Turn.of([user(EASY)], {"input": EASY})
        built.recorder(first, built.select(first, force="strong")).saw(b'{"id": "resp_1", "output": []}')
        parameters = {"input": EASY, "previous_response_id": "resp_1"}
        decision = built.select(follow := Turn.of([user(EASY)], parameters))
        assert decision.tier == "strong"
        assert "refers to what the strong model keeps" in decision.reason
        request_for = built.request_for(follow, parameters)
        assert request_for("strong") is parameters
        with pytest.raises(BackendError, match=r"'small' cannot go on: resp_1 is kept by 'big'") as raised:
            request_for("weak")
        assert not raised.value.retryable
        unknown = Turn.of([user(EASY)], {"input": EASY, "previous_response_id": "resp_2"})
        assert built.select(unknown).tier == "weak"

    @pytest.mark.parametrize(
        "parameters",
        [
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
            {"input": [{"type": "item_reference", "id": "rs_1"}]},
        ],
    )
    def test_files_containers_and_items_stay_where_they_were(self, parameters: dict[str, Any]) -> None:
        built = selector()
        turn = Turn.of([user(EASY)], parameters)
        built.recorder(turn, built.select(turn, force="strong")).saw()
        assert built.select(Turn.of([user(EASY)], parameters)).tier == "strong"

    def test_signatures_go_to_nobody_else(self) -> None:
        built = selector(sticky=None)
        talk = Talk(built, **SESSION)
        signed = call(1, extra_content={"google": {"thought_signature": "c2lnbmF0dXJl" * 20}})
        talk.ask(user(HARD), says=signed)
        talk.ask(result(1))
        parameters = {"messages": [*talk.messages, user(EASY)], **SESSION}
        turn = Turn.of(parameters["messages"], parameters)
        assert built.select(turn).tier == "weak"
        request_for = built.request_for(turn, parameters)
        assert request_for("strong") is parameters
        sent = request_for("weak")
        assert "signature" not in json.dumps(sent)
        assert sent["messages"][1] == call(1)
        assert "signature" in json.dumps(parameters)  # the caller's own is untouched

    def test_what_is_stripped(self) -> None:
        thinking = {"type": "thinking", "thinking": "hm", "signature": "x"}
        said = {"type": "text", "text": "a"}
        messages = [
            {"role": "assistant", "content": [thinking, said], "thinking_blocks": [thinking], "reasoning_content": "hm"}
        ]
        assert without_state({"messages": messages, "n": 1}) == {
            "messages": [{"role": "assistant", "content": [said], "reasoning_content": "hm"}],
            "n": 1,
        }
        items = [{"type": "reasoning", "encrypted_content": "x"}, {"type": "function_call", "call_id": "c"}]
        assert without_state({"input": items}) == {"input": items[1:]}


def test_an_open_call_is_seen() -> None:
    assert has_open_call([user("q"), call()])
    assert has_open_call([user("q"), call(), result()])
    assert not has_open_call([user("q"), call(), result(), answer()])
    assert not has_open_call([])


async def test_the_asynchronous_way_decides_alike_and_asks_a_shared_memory_in_a_thread() -> None:
    class SlowStore:
        def __init__(self) -> None:
            self.entries: dict[str, str] = {}

        def get(self, keys: Any, seconds: float) -> list[str | None]:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()  # not on the event loop
            return [self.entries.get(key) for key in keys]

        def put(self, values: Any, seconds: float) -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            self.entries.update(values)

    built = selector(memory=ConversationMemory(store=SlowStore()))
    turn = Turn.of([user(HARD)], SESSION)
    decision = await built.aselect(turn)
    await built.recorder(turn, decision).asaw(b'{"id": "x"}')
    follow = Turn.of([user(HARD), answer(), user("Shorten this paragraph for me")], SESSION)
    assert (await built.aselect(follow)).tier == "strong"
    assert (await built.arequest_for(follow, SESSION))("weak") is SESSION
