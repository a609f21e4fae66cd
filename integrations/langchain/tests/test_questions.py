"""Retrieval: the question is routed on, not the documents around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langchain_routellm import RouteLLMChat, mark_question, route_on
from langchain_routellm.messages import conversation_of

from routellm_core.errors import ConfigError
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

Chat = Callable[..., RouteLLMChat]
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer from the context."), ("human", "Context: {context}\n\nQuestion: {question}")]
)


@pytest.fixture
def retriever(local_models: LocalModelServer) -> Any:
    embeddings = OpenAIEmbeddings(base_url=local_models.base_url, api_key="local", check_embedding_ctx_length=False)
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document("Rome is hard to leave."), Document("Oslo is cold.")])
    return store.as_retriever(search_kwargs={"k": 1})


async def test_a_retrieval_chain_routes_on_the_question(chat: Chat, retriever: Any) -> None:
    router = FixedScoreRouter(score=lambda prompt: 0.9 if "hard" in prompt else 0.1)
    context = retriever | RunnableLambda(lambda documents: "\n".join(item.page_content for item in documents))
    inputs = {"context": context, "question": RunnablePassthrough()}
    model = chat(router=router)
    assert "big answers" in (inputs | PROMPT | model | StrOutputParser()).invoke("Is Rome nice?"), "the trap is gone"
    marked = inputs | route_on(PROMPT, "question") | model
    for answer in (marked.invoke("Is Rome nice?"), await marked.ainvoke("Is Rome nice?")):
        assert answer.response_metadata["routing"]["tier"] == "weak"
        assert "Rome is hard to leave" in answer.content, "the model did not get the context"
    assert router.batches[-1] == ["Is Rome nice?"]


def test_extract_does_the_same(chat: Chat) -> None:
    model = chat(extract=lambda messages: messages[-1].text.partition("Question: ")[2])
    answer = (PROMPT | model).invoke({"context": "hard facts", "question": "Easy?"})
    assert answer.response_metadata["routing"]["tier"] == "weak"


def test_a_marked_message_keeps_its_text() -> None:
    message = HumanMessage("Context: x. Question: y", additional_kwargs={"kept": 1})
    marked = mark_question(message, "y")
    assert (marked.text, message.additional_kwargs) == (message.text, {"kept": 1})
    assert conversation_of([marked])[0]["content"] == "y"


def test_the_last_user_message_of_a_prompt_is_marked() -> None:
    prompt = ChatPromptTemplate.from_messages(
        [MessagesPlaceholder("history"), ("human", "{context} {question}"), ("system", "Be brief.")]
    )
    history = [HumanMessage("before"), AIMessage("a")]
    messages = route_on(prompt, "question").invoke({"history": history, "context": "c", "question": "q"}).to_messages()
    assert [item["content"] for item in conversation_of(messages)] == ["before", "a", "q", "Be brief."]


def test_a_variable_that_the_prompt_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="no variable 'query'; its variables are context, question"):
        route_on(PROMPT, "query")


def test_marks_do_not_reach_the_model(chat: Chat, local_models: LocalModelServer) -> None:
    chat().invoke([mark_question(HumanMessage("all of it"), "hard")])
    assert local_models.requests[-1]["model"] == "big"
    assert local_models.requests[-1]["messages"] == [{"role": "user", "content": "all of it"}]


@pytest.mark.parametrize(
    ("message", "is_users"),
    [
        (HumanMessage("x"), True),
        (HumanMessage("x", additional_kwargs={"lc_source": "summarization"}), False),
        (ChatMessage("x", role="user"), True),
        (ChatMessage("x", role="critic"), False),
        (SystemMessage("x"), False),
        (AIMessage("x"), False),
    ],
)
def test_who_is_a_user(message: Any, is_users: bool) -> None:
    assert (conversation_of([message])[0]["role"] == "user") is is_users
