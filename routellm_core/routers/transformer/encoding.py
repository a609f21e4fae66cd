"""From prompts to the tokens that a causal classifier reads. Scoring and training both come through here."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any, Final

from routellm_core.errors import ConfigError
from routellm_core.routers.transformer.loading import clean_text
from routellm_core.routers.transformer.prompt import ClassifierPrompt

__all__ = ["SCORE_TOKENS", "ClassifierEncoder"]

SCORE_TOKENS: Final = ("[[1]]", "[[2]]", "[[3]]", "[[4]]", "[[5]]")
_NEW_TOKENS = 6
"""What RouteLLM generates: Llama 3's header of four tokens, the score, and the end of the turn."""

_CHARACTERS_PER_TOKEN = 16
_MARKER = re.compile(r"<\|[^|>]+\|>")


class ClassifierEncoder:
    """Puts the messages around prompts, tokenises them, and cuts what does not fit.

    Args:
        tokenizer: a Hugging Face tokenizer; missing score tokens are added to it.
        prompt: the messages.
        special_tokens: the score tokens in order.
        add_markers: also add the chat format's markers (``<|eot_id|>`` …) where missing: for training, before there
            are weights that know the text without them.

    Attributes:
        tokenizer: the tokenizer.
        prompt: the messages.
        score_ids: ids of the score tokens.
        header: ids of what the model writes before the score.
        new_tokens: how many tokens a model may write, header and score included.
        room: most tokens of a prompt with its messages; set by :meth:`limit_to`.
    """

    def __init__(
        self, tokenizer: Any, prompt: ClassifierPrompt, special_tokens: Sequence[str], *, add_markers: bool = False
    ) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        if add_markers:
            chat = prompt.chat
            markers = _MARKER.findall(chat.system + chat.user + chat.assistant_header)
            tokenizer.add_tokens(list(dict.fromkeys(markers)), special_tokens=True)
        tokenizer.add_tokens(list(special_tokens), special_tokens=True)
        self.score_ids: list[int] = tokenizer.convert_tokens_to_ids(list(special_tokens))
        self.header: list[int] = tokenizer.encode(prompt.chat.assistant_header, add_special_tokens=False)
        self.new_tokens = max(_NEW_TOKENS, len(self.header) + 2)  # more only for longer headers than Llama 3's
        self.room = 0
        # Fast tokenizers keep settings in themselves and refuse to be used from two threads at once.
        self._tokenizing = threading.Lock()

    @property
    def pad_id(self) -> int:
        """A token to fill rows up with; nothing ever attends to it."""
        end = self.tokenizer.eos_token_id
        return self.score_ids[0] if end is None else int(end)

    @property
    def max_characters(self) -> int:
        """Characters after which a prompt is cut before it is tokenised."""
        return self.room * _CHARACTERS_PER_TOKEN

    def limit_to(self, positions: int, wanted: int | None) -> int:
        """Leave room for the messages and the answer in ``wanted`` tokens, by default in all ``positions``.

        Returns:
            the limit.

        Raises:
            ConfigError: more than the model has, or too few for the messages.
        """
        if wanted is not None and not len(self.header) + _NEW_TOKENS < wanted <= positions:
            raise ConfigError(f"causal_llm: max_tokens is {wanted}; this checkpoint takes at most {positions}")
        limit = positions if wanted is None else wanted
        self.room = limit - self.new_tokens
        messages = len(self.encode(["a"])[0])
        if messages > self.room:
            raise ConfigError(f"causal_llm: the messages alone take {messages} tokens; raise max_tokens")
        return limit

    def encode(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the tokens of the prompt for each question, the question's end cut until all fits."""
        texts = [clean_text(question, self.max_characters) for question in questions]
        if not texts:
            return []
        with self._tokenizing:
            encoded: list[list[int]] = self.tokenizer([self.prompt.render(text) for text in texts])["input_ids"]
            for row, text in enumerate(texts):
                while len(encoded[row]) > self.room and text:
                    # By at least one character; by as much as the excess where the text is far too long.
                    text = text[: min(len(text) - 1, len(text) * self.room // len(encoded[row]))]
                    encoded[row] = self.tokenizer(self.prompt.render(text))["input_ids"]
        return encoded
