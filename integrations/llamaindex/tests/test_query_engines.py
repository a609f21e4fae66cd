"""Query engines: the question is routed on, never the documents around it."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import PromptTemplate, Settings, VectorStoreIndex, get_response_synthesizer
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine, TransformQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

HARD, EASY = "Why is it hard to choose a threshold?", "Which file holds the configuration?"
MODES = ["compact", "refine", "tree_summarize", "accumulate", "compact_accumulate", "simple_summarize"]
BOTH = pytest.mark.parametrize(("question", "model"), [(HARD, "big"), (EASY, "small")])


class Finding(BaseModel):
    """What was found."""

    answer: str


@BOTH
@pytest.mark.parametrize("mode", MODES)
async def test_synthesis_is_routed_on_the_question(
    build: Any, index: VectorStoreIndex, mode: str, question: str, model: str
) -> None:
    engine = index.as_query_engine(llm=build(), response_mode=mode, similarity_top_k=3)
    assert model in str(engine.query(question))
    assert model in str(await engine.aquery(question))
    assert set(build.scored) == {question}
    assert set(build.answered) == {model}
    assert len(build.answered) >= (6 if "refine" in mode or mode == "accumulate" else 2)


@BOTH
@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
async def test_streams_are_routed_on_the_question(
    build: Any, index: VectorStoreIndex, mode: str, question: str, model: str
) -> None:
    engine = index.as_query_engine(llm=build(), response_mode=mode, similarity_top_k=2, streaming=True)
    assert f"{model} answers:" in "".join(engine.query(question).response_gen)
    streamed = await engine.aquery(question)
    assert f"{model} answers:" in "".join([token async for token in streamed.async_response_gen()])
    assert set(build.scored) == {question}
    assert set(build.answered) == {model}


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
async def test_structured_answers_are_routed_on_the_question(build: Any, index: VectorStoreIndex, mode: str) -> None:
    engine = index.as_query_engine(llm=build(), response_mode=mode, similarity_top_k=2, output_cls=Finding)
    assert isinstance(engine.query(HARD).response, Finding)
    assert isinstance((await engine.aquery(EASY)).response, Finding)
    assert set(build.scored) == {HARD, EASY}
    assert set(build.answered) == {"big", "small"}


def test_structured_streams_are_routed_on_the_question(build: Any, index: VectorStoreIndex) -> None:
    engine = index.as_query_engine(llm=build(), streaming=True, output_cls=Finding)
    engine.query(HARD)
    assert (build.scored, set(build.answered)) == ([HARD], {"big"})


@pytest.mark.parametrize("question", [HARD, EASY])
def test_a_structured_llm_is_routed_on_the_question(build: Any, index: VectorStoreIndex, question: str) -> None:
    template = PromptTemplate("Documents, some of them hard:\n{context_str}\n-- {query_str} --")
    engine = index.as_query_engine(llm=build().as_structured_llm(Finding), text_qa_template=template)
    assert isinstance(engine.query(question).response, Finding)
    assert build.scored == [question]


def test_answer_filtering_is_routed_on_the_question(build: Any, index: VectorStoreIndex) -> None:
    synthesizer = get_response_synthesizer(llm=build(), response_mode="refine", structured_answer_filtering=True)
    nodes = index.as_retriever(similarity_top_k=3).retrieve(HARD)
    assert str(synthesizer.synthesize(HARD, nodes))
    assert build.scored == [HARD]
    assert build.answered == ["big"] * 3


def test_templates_of_ones_own_need_nothing(build: Any, index: VectorStoreIndex) -> None:
    template = PromptTemplate("A hard text: {context_str}\nQuestion: {query_str}")
    index.as_query_engine(llm=build(), text_qa_template=template).query(EASY)
    assert (build.scored, build.answered) == ([EASY], ["small"])


@pytest.mark.parametrize("use_async", [False, True])
def test_sub_questions_are_routed_each_for_itself(build: Any, index: VectorStoreIndex, use_async: bool) -> None:
    llm = build()
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name=name, description=f"Knows {name} things.")
        for name in ("hard", "simple")
    ]
    generator = LLMQuestionGenerator.from_defaults(llm=llm)
    engine = SubQuestionQueryEngine.from_defaults(
        tools, llm=llm, question_gen=generator, use_async=use_async, verbose=False
    )
    response = engine.query(EASY)
    subs = [f"{EASY} (as {name} knows it)" for name in ("hard", "simple")]
    assert set(build.scored) == {EASY, *subs}
    answered = {
        node.text.split("\n")[0].removeprefix("Sub question: "): node.text for node in response.source_nodes[:2]
    }
    assert "big answers" in answered[subs[0]]
    assert "small answers" in answered[subs[1]]
    assert sorted(build.answered) == ["big", "small", "small", "small"]


@BOTH
async def test_a_router_query_engine_selects_and_answers_with_one_model(
    build: Any, index: VectorStoreIndex, question: str, model: str
) -> None:
    llm = build()
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name=name, description=f"A hard {name}.")
        for name in ("first", "second")
    ]
    engine = RouterQueryEngine.from_defaults(tools, llm=llm)
    assert f"{model} answers" in str(engine.query(question))
    assert f"{model} answers" in str(await engine.aquery(question))
    assert set(build.scored) == {question}
    assert build.answered == [model] * 4


def test_text_selectors_name_the_question(build: Any) -> None:
    chosen = LLMSingleSelector.from_defaults(build()).select(["a hard one", "another, about configuration"], EASY)
    assert chosen.ind == 1
    assert build.scored == [EASY]


async def test_retrieval_with_an_llm_is_routed_on_the_question(build: Any, index: VectorStoreIndex) -> None:
    llm = build()
    fusion = QueryFusionRetriever([index.as_retriever()], llm=llm, num_queries=2, use_async=False)
    assert fusion.retrieve(HARD)
    engine = TransformQueryEngine(index.as_query_engine(llm=llm), HyDEQueryTransform(llm=llm))
    engine.query(HARD)
    LLMRerank(llm=llm, parse_choice_select_answer_fn=lambda answer, count: ([1], [1.0])).postprocess_nodes(
        index.as_retriever().retrieve(HARD), query_str=HARD
    )
    assert set(build.scored) == {HARD}
    assert set(build.answered) == {"big"}


def test_settings_llm_and_embed_model(build: Any, documents: Any) -> None:
    from llama_index.llms.routellm import RouteLLMEmbedding

    Settings.llm = build()
    Settings.embed_model = RouteLLMEmbedding()
    engine = VectorStoreIndex.from_documents(documents).as_query_engine()
    assert "big answers" in str(engine.query(HARD))
    assert build.scored == [HARD]
