"""The prompt of the ``causal_llm`` router: RouteLLM's messages in Llama 3's chat format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from routellm_core.errors import CheckpointError, ConfigError

__all__ = ["DEFAULT_MESSAGES", "LLAMA_3", "ChatFormat", "ClassifierPrompt"]

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
        """Return the format named or spelled out by a configuration option.

        Raises:
            ConfigError: an unknown name, or other keys than ``system``, ``user``, ``assistant_header``.
        """
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
    """The question put to the classifier.

    Attributes:
        system: the system message.
        classifier: the user message, with ``{question}`` for the prompt to be routed.
        chat: the chat format.
    """

    system: str
    classifier: str
    chat: ChatFormat = LLAMA_3

    @classmethod
    def load(cls, folder: Path, chat: ChatFormat) -> ClassifierPrompt:
        """Read RouteLLM's two message files from a checkpoint.

        Raises:
            CheckpointError: one is missing, is not UTF-8, or the second has no ``{question}``.
        """
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
