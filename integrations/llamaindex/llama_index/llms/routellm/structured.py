"""``RoutedStructuredLLM``: what ``RouteLLM.as_structured_llm`` returns."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen
from llama_index.llms.routellm.messages import named_question

__all__ = ["RoutedStructuredLLM"]


class _Asking:
    """Predictions that tell the router the template's question. Apart from the LLM class, which would add spans."""

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        return StructuredLLM.predict(self._asking(prompt, prompt_args), prompt, **prompt_args)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        return await StructuredLLM.apredict(self._asking(prompt, prompt_args), prompt, **prompt_args)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        return StructuredLLM.stream(self._asking(prompt, prompt_args), prompt, **prompt_args)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        return await StructuredLLM.astream(self._asking(prompt, prompt_args), prompt, **prompt_args)

    def _asking(self, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Any:
        question = named_question(prompt, prompt_args)
        if question is None:
            return self
        return self.model_copy(update={"llm": self.llm.asking(question)})  # type: ignore[attr-defined]


class RoutedStructuredLLM(_Asking, StructuredLLM):
    """LlamaIndex's structured LLM, routed on the question of a template.

    The plain one renders the template first and passes messages on, in which the question stands among documents.
    """
