"""Battles, embedders and small checkpoints for the routers' tests. Everything is built here; nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.routers.sw_ranking.battles import BattleTable

TEXTS = [
    "What is the capital of France?",
    "hi",
    "Prove that there are infinitely many primes, and that the sum of their reciprocals diverges.",
    "",
    "Schreibe ein Gedicht über die Ähnlichkeit von Äpfeln und Öl.",
    "Write a function that sorts a list. " * 6,
    "\ud800 lone surrogate, {braces} and [[brackets]]",
    "日本語の質問です。答えてください。",
    "    leading and trailing space    ",
    "a" * 500,
]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The folder of numbers that RouteLLM itself computed."""
    return shared / "golden"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Prompts of many lengths, scripts and oddities."""
    return list(TEXTS)


@dataclass
class HashEmbedder:
    """Deterministic vectors from a text's characters."""

    dimension: int | None = 16
    name: str = "hash-test"

    def embed(self, texts: Sequence[str]) -> Any:
        size = self.dimension or 16
        out = np.zeros((len(texts), size), dtype=np.float32)
        for row, text in enumerate(texts):
            for place, character in enumerate(text):
                out[row, (ord(character) * 31 + place * 7) % size] += 1.0
            out[row, 0] += 0.5
        return out


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="session")
def make_battles() -> Callable[..., tuple[BattleTable, Any]]:
    """A function that makes random battles with embeddings that say something about their outcome."""

    def make(
        count: int = 400, models: int = 12, dimension: int = 16, seed: int = 0, names: str = "m"
    ) -> tuple[BattleTable, Any]:
        rng = np.random.default_rng(seed)
        model_a = rng.integers(0, models, count)
        model_b = (model_a + rng.integers(1, models, count)) % models
        embeddings = rng.standard_normal((count, dimension)).astype(np.float32) + 0.5
        gap = (model_b - model_a) / models * (1 + embeddings[:, 0])
        outcome = np.where(rng.random(count) < 0.2, 2, (rng.random(count) > 1 / (1 + np.exp(-gap))).astype(int))
        table = BattleTable(
            tuple(f"{names}{number}" for number in range(models)),
            model_a.astype(np.int32),
            model_b.astype(np.int32),
            outcome.astype(np.int8),
            tuple(f"prompt number {row} of the battles" for row in range(count)),
        )
        return table, embeddings

    return make


def train_tokenizer(special: list[str], vocabulary: int, template: str) -> Any:
    """Train a byte-level BPE tokenizer on the test texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [text.encode("utf-8", "ignore").decode() for text in TEXTS]
    # "assistant" and "\n\n" become one token each, as in Llama 3's vocabulary.
    corpus += ["system", "user", "assistant", "\n\n", "[Instruction]\nPredict.", "[Question]", "Prediction:"] * 20
    tokenizer.train_from_iterator(corpus, trainer)
    used = [token for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, tokenizer.token_to_id(token)) for token in used]
    )
    return tokenizer


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch on one thread: for models this small, threads only wait for each other."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="session")
def bert_checkpoint(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random XLM-RoBERTa with three labels; 64 tokens at most."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = train_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], 400, "<s> $A </s>")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=512,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        num_labels=3,
        pad_token_id=1,
        initializer_range=0.5,
    )
    transformers.XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


LLAMA_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SCORE_TOKENS = [f"[[{score}]]" for score in range(1, 6)]
SYSTEM = "[Instruction]\nPredict.\n"
CLASSIFIER = "[Question]\n{question}\n\nPrediction:\n"


@pytest.fixture(scope="session")
def untrained_causal_checkpoint(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama that writes nonsense."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("causal")
    tokenizer = train_tokenizer(LLAMA_TOKENS, 400, "<|begin_of_text|> $A")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(fast) + len(SCORE_TOKENS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "system_ft_v5.txt").write_text(SYSTEM, encoding="utf-8")
    (folder / "classifier_ft_v5.txt").write_text(CLASSIFIER, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def causal_checkpoint(torch: Any, untrained_causal_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same Llama after a short training: it writes the assistant header, then a score for the prompt."""
    transformers = pytest.importorskip("transformers")
    from routellm_core.embeddings.base import encodable

    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    shutil.copytree(untrained_causal_checkpoint, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(SCORE_TOKENS, special_tokens=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    rows, targets = [], []
    for number, question in enumerate(encodable(text[:60]) for text in [*TEXTS, "some other text", "Why?"]):
        turn = CLASSIFIER.format(question=question).strip()
        prompt = (
            f"<|start_header_id|>system<|end_header_id|>\n\n{SYSTEM.strip()}<|eot_id|>"
            f"<|start_header_id|>user<|end_header_id|>\n\n{turn}<|eot_id|>"
        )
        answer = f"<|start_header_id|>assistant<|end_header_id|>\n\n[[{1 + number % 5}]]<|eot_id|>"
        known, wanted = tokenizer(prompt)["input_ids"], tokenizer.encode(answer, add_special_tokens=False)
        rows.append([*known, *wanted])
        targets.append([*[-100] * len(known), *wanted])
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[1] * (width - len(row))] for row in rows])
    labels = torch.tensor([[*row, *[-100] * (width - len(row))] for row in targets])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(1)
    for _ in range(50):
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copy_checkpoint(tmp_path: Path) -> Callable[[Path], Path]:
    """A function that copies a checkpoint to where a test may damage it."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts a folder into an offline Hugging Face cache under a Hub id."""
    constants = pytest.importorskip("huggingface_hub.constants")

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(folder: Path, repo_id: str, repo_type: str = "model") -> None:
        commit = "0" * 39 + "1"
        root = cache / f"{repo_type}s--{repo_id.replace('/', '--')}"
        shutil.copytree(folder, root / "snapshots" / commit)
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)

    return put


@pytest.fixture(scope="session")
def read_json() -> Callable[[Path], Any]:
    return lambda path: json.loads(path.read_text(encoding="utf-8"))
