"""Which text of a conversation or of a rendered prompt is routed on."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.agent.workflow.prompts import DEFAULT_STATE_PROMPT
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.chat_engine.condense_plus_context import DEFAULT_CONDENSE_PROMPT_TEMPLATE
from llama_index.core.chat_engine.condense_question import DEFAULT_TEMPLATE
from llama_index.core.prompts import PromptTemplate, SelectorPromptTemplate, default_prompts
from llama_index.core.prompts.chat_prompts import (
    CHAT_REFINE_PROMPT,
    CHAT_TEXT_QA_PROMPT,
    CHAT_TREE_SUMMARIZE_PROMPT,
)
from llama_index.core.retrievers.fusion_retriever import QUERY_GEN_PROMPT
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import prompts as selectors
from llama_index.llms.routellm.messages import core_extract, named_question, turn_of
from llama_index.llms.routellm.rendered import question_in

from routellm_core.errors import ConfigError, UnsupportedPromptError
from routellm_core.prompts import routing_prompt

QUESTION = "Why is 'routing' hard?\nAnd when does it pay?"
CONTEXT = "Some document.\nQuery: an old one\nAnswer: yes\n\nFollow Up Input: none"
VALUES = {
    "query_str": QUESTION,
    "question": QUESTION,
    "query": QUESTION,
    "msg": QUESTION,
    "context_str": CONTEXT,
    "context_msg": CONTEXT,
    "context_list": CONTEXT,
    "chat_history": CONTEXT,
    "state": CONTEXT,
    "existing_answer": "So far: it depends.",
    "num_choices": 2,
    "num_queries": 3,
    "max_outputs": 2,
}
TEXTS = {
    "qa": default_prompts.DEFAULT_TEXT_QA_PROMPT_TMPL,
    "tree_summarize": default_prompts.DEFAULT_TREE_SUMMARIZE_TMPL,
    "refine": default_prompts.DEFAULT_REFINE_PROMPT_TMPL,
    "single": selectors.DEFAULT_SINGLE_SELECT_PROMPT_TMPL,
    "multi": selectors.DEFAULT_MULTI_SELECT_PROMPT_TMPL,
    "single_pydantic": selectors.DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL,
    "multi_pydantic": selectors.DEFAULT_MULTI_PYD_SELECT_PROMPT_TMPL,
    "condense_plus_context": DEFAULT_CONDENSE_PROMPT_TEMPLATE,
    "condense_question": DEFAULT_TEMPLATE,
    "fusion": QUERY_GEN_PROMPT,
    "state": DEFAULT_STATE_PROMPT,
}


def user_text(given: list[ChatMessage]) -> str | None:
    return routing_prompt(turn_of(given, {}).messages)


@pytest.mark.parametrize("name", TEXTS)
def test_the_question_of_a_default_template_is_found(name: str) -> None:
    template = TEXTS[name] if isinstance(TEXTS[name], str) else TEXTS[name].get_template()
    assert question_in(PromptTemplate(template).format(**VALUES)) == QUESTION


def test_hyde_writes_the_question_as_its_context() -> None:
    rendered = default_prompts.DEFAULT_HYDE_PROMPT.format(context_str=QUESTION)
    assert question_in(rendered) == QUESTION


@pytest.mark.parametrize("prompt", [CHAT_TEXT_QA_PROMPT, CHAT_TREE_SUMMARIZE_PROMPT, CHAT_REFINE_PROMPT])
def test_the_question_of_a_chat_template_is_found(prompt: Any) -> None:
    assert user_text(prompt.format_messages(**VALUES)) == QUESTION


@pytest.mark.parametrize(
    "text",
    [
        "What is routing?",
        "Context information is overrated.",
        "Current state: Ohio",
        "Write me a New Answer:",
        "",
        "Queries:",
    ],
)
def test_a_persons_own_words_stay(text: str) -> None:
    assert question_in(text) == text


def test_a_question_is_named_by_the_call_or_fixed_in_the_template() -> None:
    template = PromptTemplate("{context_str} {query_str}")
    assert named_question(template, {"context_str": "x"}) is None
    assert named_question(template, {"query_str": "asked"}) == "asked"
    assert named_question(template, {"query_str": QueryBundle("asked")}) == "asked"
    assert named_question(template.partial_format(query_str="fixed"), {}) == "fixed"
    assert named_question(template.partial_format(query_str="fixed"), {"query_str": "asked"}) == "asked"
    assert named_question(PromptTemplate("{question}"), {"question": "condensed"}) == "condensed"
    chosen = SelectorPromptTemplate(default_template=template).partial_format(query_str="fixed")
    assert named_question(chosen, {}) == "fixed"


def messages(*pairs: tuple[str, str]) -> list[ChatMessage]:
    return [ChatMessage(role=role, content=content) for role, content in pairs]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("system", "s"), ("user", "asked")], "asked"),
        ([("user", "asked"), ("assistant", "a"), ("tool", "result")], "asked"),
        ([("user", "asked"), ("assistant", "Action: x"), ("user", "Observation: 3")], "asked"),
        ([("user", "asked"), ("assistant", "x"), ("user", "Observation: 3"), ("user", "Observation: 4")], "asked"),
        ([("user", "asked"), ("assistant", "?"), ("user", "Error while parsing the output: no Action")], "asked"),
        ([("user", "Observation: the sky is blue. Why?")], "Observation: the sky is blue. Why?"),
        ([("system", "only")], None),
        ([("user", " ")], None),
    ],
)
def test_the_last_message_of_a_person_counts(given: list[tuple[str, str]], expected: str | None) -> None:
    assert user_text(messages(*given)) == expected


def test_the_core_sees_the_question_in_its_place() -> None:
    given = messages(("system", "s"), ("user", "first"), ("assistant", "x"), ("user", "Observation: 3"))
    seen = turn_of(given, {}, question="asked").messages
    assert [message["role"] for message in seen] == ["system", "user", "assistant", "tool"]
    assert (seen[0]["content"], seen[1]["content"]) == ("", "asked")
    for alone in (turn_of([], {}, question="asked"), turn_of(given[:2], {}, question="asked")):
        assert alone.messages == [{"role": "user", "content": "asked"}]
    assert core_extract(lambda said: said[-1].content)(turn_of(given, {}).messages) == "Observation: 3"
    assert core_extract(lambda _: "never")([{"role": "user", "content": "known"}]) == "known"


def test_what_a_call_needs_is_read() -> None:
    picture = ChatMessage(role="user", blocks=[ImageBlock(url="http://localhost/cat.png"), TextBlock(text="What?")])
    assert turn_of([picture], {}).needs.abilities == {"image"}
    rendered = turn_of(messages(("user", "word " * 4000)), {"max_tokens": 7}, question="asked")
    assert rendered.needs.tokens == 5000
    assert rendered.needs.output_tokens == 7


def test_an_extractor_of_ones_own(build: Any) -> None:
    llm = build(extract=lambda given: (given[-1].content or "").rpartition("Task: ")[2] or None)
    llm.complete("Some hard rules. Task: sort")
    assert llm.chat(messages(("user", "Task: "))).additional_kwargs["routing"]["score"] is None
    assert build.scored == ["sort"]
    with pytest.raises(UnsupportedPromptError, match="extract returned int"):
        build(extract=lambda given: 3).complete("x")
    with pytest.raises(ConfigError, match="must be a function"):
        build(extract="last")


def test_nothing_to_route_on_is_an_error(build: Any) -> None:
    with pytest.raises(UnsupportedPromptError, match="no message and no question"):
        build().chat([])
