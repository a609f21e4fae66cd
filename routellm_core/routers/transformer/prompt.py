"""The prompt of the ``causal_llm`` router: RouteLLM's messages in Llama 3's chat format, and their tokens.

Scoring and training both come through here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_core.embeddings.base import encodable
from routellm_core.errors import CheckpointError, ConfigError

__all__ = ["DEFAULT_MESSAGES", "LLAMA_3", "SCORE_TOKENS", "ChatFormat", "ClassifierEncoder", "ClassifierPrompt"]

SCORE_TOKENS: Final = ("[[1]]", "[[2]]", "[[3]]", "[[4]]", "[[5]]")
_NEW_TOKENS = 6
"""What RouteLLM generates: Llama 3's header of four tokens, the score, and the end of the turn."""

_CHARACTERS_PER_TOKEN = 16
_MARKER = re.compile(r"<\|[^|>]+\|>")
_SYSTEM_FILE, _CLASSIFIER_FILE = "system_ft_v5.txt", "classifier_ft_v5.txt"


@dataclass(frozen=True)
class ChatFormat:
    """How a model was trained to see a conversation. The tokenizer adds what comes before it all (BOS).

    Attributes:
        system: the system turn, with ``{instruction}`` for its text.
        user: the user turn, likewise.
        assistant_header: what the model writes before its answer.
    """

    system: str
    user: str
    assistant_header: str

    def __post_init__(self) -> None:
        for name in ("system", "user"):
            if "{instruction}" not in getattr(self, name):
                raise ConfigError(f"causal_llm: prompt_format.{name} must contain '{{instruction}}'")

    @classmethod
    def from_option(cls, value: str | Mapping[str, str]) -> ChatFormat:
        """Return the format that an option names or spells out; raise ConfigError for unknown names and keys."""
        if isinstance(value, str):
            if value != "llama-3":
                raise ConfigError(f"causal_llm: prompt_format {value!r} is neither 'llama-3' nor a mapping")
            return LLAMA_3
        try:
            return cls(**value)
        except TypeError as error:
            raise ConfigError(
                f"causal_llm: prompt_format takes the keys system, user and assistant_header, got {', '.join(value)}"
            ) from error


LLAMA_3 = ChatFormat(
    system="<|start_header_id|>system<|end_header_id|>\n\n{instruction}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{instruction}<|eot_id|>",
    assistant_header="<|start_header_id|>assistant<|end_header_id|>\n\n",
)


@dataclass(frozen=True)
class ClassifierPrompt:
    """The question put to the classifier."""

    system: str  # the system message
    classifier: str  # the user message, with ``{question}`` for the prompt to be routed
    chat: ChatFormat = LLAMA_3  # the chat format

    @classmethod
    def load(cls, folder: Path, chat: ChatFormat) -> ClassifierPrompt:
        """Read RouteLLM's two message files; raise CheckpointError if one is missing, or lacks ``{question}``."""
        texts = []
        for name in (_SYSTEM_FILE, _CLASSIFIER_FILE):
            try:
                texts.append((folder / name).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise CheckpointError(f"{folder / name} is missing or unreadable: {error}") from error
        try:
            changes = texts[1].format(question="x") != texts[1].format(question="y")
        except (KeyError, IndexError, ValueError) as error:
            raise CheckpointError(
                f"{folder / _CLASSIFIER_FILE} must have {{question}} as its only field: {error}"
            ) from error
        if not changes:
            raise CheckpointError(f"{folder / _CLASSIFIER_FILE} has no {{question}}")
        return cls(texts[0], texts[1], chat)

    def save(self, folder: Path) -> None:
        """Write RouteLLM's two message files; :meth:`load` reads them back."""
        (folder / _SYSTEM_FILE).write_text(self.system, encoding="utf-8")
        (folder / _CLASSIFIER_FILE).write_text(self.classifier, encoding="utf-8")

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder has message files."""
        return (folder / _SYSTEM_FILE).is_file() or (folder / _CLASSIFIER_FILE).is_file()

    def render(self, question: str) -> str:
        """Return the text that the model continues. Messages are stripped; an empty system message leaves no turn."""
        turns = [self.chat.system.format(instruction=self.system.strip())] if self.system else []
        user = self.classifier.format(question=question).strip()
        return "".join([*turns, self.chat.user.format(instruction=user)])


DEFAULT_MESSAGES = ClassifierPrompt(
    system=(
        "You rate questions before anyone answers them. Say how well a small language model's answer will compare with "
        "that of a much larger one.\n\n"
        "- [[5]]: the small model's answer will be the better one.\n"
        "- [[4]]: both answers will be equally good.\n"
        "- [[3]]: the larger model's answer will be somewhat better.\n"
        "- [[2]]: it will be clearly better.\n"
        "- [[1]]: only the larger model will give a useful answer.\n\n"
        "Write the rating and nothing else.\n"
    ),
    classifier="Question:\n{question}\n\nRating:\n",
)
"""What a model is asked that was not trained on other messages before."""


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

        Returns the limit. Raises ConfigError for more than the model has, or too few for the messages.
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
        texts = [encodable(question[: self.max_characters]) for question in questions]
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
