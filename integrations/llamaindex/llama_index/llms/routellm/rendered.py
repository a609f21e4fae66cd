"""Finding the question in a prompt that LlamaIndex has rendered already.

Most of LlamaIndex names the question when it calls an LLM (``query_str=``). A few parts format their template first
and pass the text on: condensing in ``CondensePlusContextChatEngine``, query generation in ``QueryFusionRetriever``,
Pydantic selectors, refining with ``structured_answer_filtering``, agents with state. Their default templates are
recognised here; ``tests/test_questions.py`` renders those of the installed LlamaIndex and looks for the question.
"""

from __future__ import annotations

import re

__all__ = ["is_agent_text", "question_in"]

_TEMPLATES = [
    # Question answering and tree_summarize; a context may hold "Query:" too, so the last one counts.
    r"\AContext information .*\nQuery: (?P<question>.+?)\nAnswer:\s*\Z",
    # Refine: for chat models, for completion models.
    r"\A.*\nQuery: (?P<question>.+?)\nOriginal Answer: .*\nNew Answer:\s*\Z",
    r"\AThe original query is as follows: (?P<question>.+?)\nWe have provided an existing answer: ",
    # Selectors of router query engines.
    r"\ASome choices are given below.* relevant to the\s+question: '(?P<question>.+)'\s*\Z",
    # Condensing a conversation, with and without a context.
    r"\A.*Follow Up Input: (?P<question>.+?)\s*Standalone question:\s*\Z",
    r"\A.*<Follow Up Message>\n(?P<question>.+?)\s*<Standalone question>\s*\Z",
    # Fusion retriever, HyDE.
    r"\A.*related to the following input query:\nQuery: (?P<question>.+?)\nQueries:\s*\Z",
    r"\APlease write a passage to answer the question\n[^\n]*\n\n\n(?P<question>.+?)\n\n\nPassage:\"\"\"\s*\Z",
    # An agent's message with its state.
    r"\ACurrent state:\n.*\n\nCurrent message:\n(?P<question>.+?)\s*\Z",
]
_PATTERNS = [re.compile(template, re.DOTALL) for template in _TEMPLATES]
_BEGINNINGS = (
    "Context information ",
    "The original query is as follows: ",
    "Some choices are given below",
    "Please write a passage to answer the question",
    "Current state:\n",
)
_ENDINGS = ("New Answer:", "Standalone question:", "<Standalone question>", "Queries:")

_AGENT_TEXTS = (
    "Observation: ",
    "Error while parsing the output: ",
    "FAILURE: Your previous response was empty.",
    "Result of executing the code given:",
)


def question_in(text: str) -> str:
    """Return the question of a default template's rendering, or ``text`` itself where it is none."""
    # Two cheap looks first: most texts are a person's own words, and a rendered one may hold many documents.
    if not (text.startswith(_BEGINNINGS) or text.rstrip().endswith(_ENDINGS)):
        return text
    for pattern in _PATTERNS:
        if match := pattern.search(text):
            return match["question"].strip()
    return text


def is_agent_text(text: str) -> bool:
    """Return whether a text reads like what agents write in the user's role: tool output and complaints."""
    return text.startswith(_AGENT_TEXTS)
