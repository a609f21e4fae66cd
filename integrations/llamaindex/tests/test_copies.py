"""Copies, pickles and options that are assigned later: all of an option takes effect, or it is refused."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import MockLLM

from routellm_core.errors import ConfigError, InvalidThresholdError
from routellm_core.testing import FixedScoreRouter

HARD, EASY = "a hard question", "a question"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda llm: llm.model_copy(), lambda llm: llm.model_copy(deep=True)]
)
def test_copies_answer_and_do_not_disturb_the_original(build: Any, copied: Any) -> None:
    counter = TokenCountingHandler()
    llm = build(callback_manager=CallbackManager([counter]))
    again = copied(llm)
    assert again.complete(HARD).text == f"big answers: {HARD}"
    again.threshold = 0.95
    assert again.complete(HARD).text == f"small answers: {HARD}"
    assert llm.complete(HARD).text == f"big answers: {HARD}"
    assert len(counter.llm_token_counts) == 3


def test_a_deep_copys_models_are_its_own(build: Any) -> None:
    llm = build(weak=MockLLM(max_tokens=3))
    deep = copy.deepcopy(llm)
    deep.weak.max_tokens = 1
    assert (deep.complete("a b c d").text, llm.complete("a b c d").text) == ("text", "text text text")


def test_pickling_leaves_the_live_object_whole(build: Any) -> None:
    handler = TokenCountingHandler()
    weak = MockLLM(max_tokens=2, callback_manager=CallbackManager([handler]))
    llm = build(router="random", threshold=0.0, weak=weak, callback_manager=CallbackManager([handler]))
    handler._lock = threading.Lock()  # as handlers of tracing services hold one
    again = pickle.loads(pickle.dumps(llm))
    assert again.complete("x").text == "big answers: x"
    pickle.dumps(llm.strong)
    assert [handler in model.callback_manager.handlers for model in (llm, llm.strong, weak)] == [True, False, True]
    assert llm.complete("x").text == "big answers: x"
    assert weak.complete("a b").text == "text text"


def test_what_is_assigned_takes_effect(build: Any) -> None:
    llm = build()
    llm.complete(EASY)
    llm.weak = "openai/other"
    assert llm.complete(EASY).additional_kwargs["routing"]["model"] == "openai/other"
    assert (llm.weak.model, llm.metadata.model_name) == ("openai/other", "router-fixed-0.5")
    llm.threshold = 0.05
    assert llm.complete(EASY).text.startswith("big")
    llm.router = FixedScoreRouter(score=0.0)
    assert llm.complete(HARD).text.startswith("other")
    llm.model_kwargs = {"seed": 3}
    llm.max_tokens = 9
    llm.complete(HARD)
    assert build.requests[-1]["seed"] == 3
    assert 9 in (build.requests[-1].get("max_tokens"), build.requests[-1].get("max_completion_tokens"))
    llm.extract = lambda messages: "the extracted text"
    llm.complete("anything")
    assert llm.router.batches[-1] == ["the extracted text"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("threshold", 7, InvalidThresholdError),
        ("strong_share", 0.5, InvalidThresholdError),
        ("weak", 3, ConfigError),
        ("max_retries", -1, ConfigError),
        ("sticky", "user", ConfigError),
        ("settle_seconds", -1, ConfigError),
    ],
)
def test_what_cannot_take_effect_is_refused_and_changes_nothing(
    build: Any, name: str, value: Any, error: type[Exception]
) -> None:
    llm = build()
    before = llm.to_dict()
    with pytest.raises(error):
        setattr(llm, name, value)
    with pytest.raises(error):
        llm.model_copy(update={name: value})
    assert llm.to_dict() == before
    assert llm.complete(HARD).text == f"big answers: {HARD}"


def test_a_copy_with_updates_keeps_what_it_does_not_name(build: Any) -> None:
    llm = build()
    other = llm.model_copy(update={"threshold": None, "strong_share": 1.0, "router": "mf", "weak": MockLLM()})
    assert other.complete("Hi").text == "big answers: Hi"
    assert other.strong is llm.strong
    assert llm.complete(EASY).text == f"small answers: {EASY}"
