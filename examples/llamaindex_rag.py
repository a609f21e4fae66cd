"""Retrieval-augmented answers over this repository's documentation, each from the model that its question calls for.

Everything runs on this machine: embedding and routing ship with the packages, the models are a local OpenAI-compatible
process. Give two litellm names to ask real models instead, the strong one first:
``python -m examples.llamaindex_rag openai/gpt-5.4 openai/gpt-5.4-nano``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.llms.routellm import RouteLLM, RouteLLMEmbedding, RoutingDecisionEvent

from routellm_core.testing.local_models import LocalModelServer

DOCUMENTATION = Path(__file__).parents[1] / "docs"
QUESTIONS = [
    "Where is the configuration file?",
    "Why does a threshold that was calibrated on one kind of traffic send a different share of another kind to the "
    "strong model, and how would you correct for that?",
]


class PrintDecisions(BaseEventHandler):
    @classmethod
    def class_name(cls) -> str:
        return "PrintDecisions"

    def handle(self, event: object, **_: object) -> None:
        if isinstance(event, RoutingDecisionEvent):
            print(f"  decision: {event.decision['model']} ({event.decision['reason']})")


def ask(llm: RouteLLM) -> None:
    Settings.llm = llm
    Settings.embed_model = RouteLLMEmbedding()
    documents = [Document(text=page.read_text(encoding="utf-8")) for page in sorted(DOCUMENTATION.glob("*.md"))]
    engine = VectorStoreIndex.from_documents(documents).as_query_engine(response_mode="compact")
    for question in QUESTIONS:
        print(f"\n{question}")
        print(f"  answer:   {str(engine.query(question))[:100]}…")


def main(arguments: list[str]) -> None:
    get_dispatcher().add_event_handler(PrintDecisions())
    if len(arguments) == 2:
        ask(RouteLLM("mf", "50%", strong=arguments[0], weak=arguments[1]))
        return
    with LocalModelServer() as server:
        local = {"strong": "openai/local-strong", "weak": "openai/local-weak"}
        ask(RouteLLM("mf", "50%", **local, api_base=server.base_url, api_key="not-needed"))


if __name__ == "__main__":
    main(sys.argv[1:])
