"""Bases small enough to train on any machine: configurations and real tokenizers, no weights. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.rows.labelled import PairRows


def train_tokenizer(texts: Sequence[str], special: Sequence[str], template: str) -> Any:
    """Train a byte-level BPE tokenizer of 600 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    used = [(token, tokenizer.token_to_id(token)) for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return tokenizer


# "assistant" and "\n\n" become one token each, as in Llama 3's vocabulary.
TEXTS = ["system", "user", "assistant", "\n\n"] * 50 + [
    f"Compute {row} * {row + 7}. Say hello to guest {row}." for row in range(50)
]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models this small threads only wait for each other, and sums depend on their number in the last bit."""
    torch = pytest.importorskip("torch", reason="needs the extra [torch]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XLM-RoBERTa's configuration with one layer and 40 tokens, dropout included."""
    transformers = pytest.importorskip("transformers", reason="needs the extra [torch]")
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    tokenizer = train_tokenizer(TEXTS, ["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=40,
    ).save_pretrained(folder)
    transformers.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        initializer_range=0.2,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        pad_token_id=1,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights that knows neither the chat format's markers nor the score tokens."""
    torch = pytest.importorskip("torch", reason="needs the extra [torch]")
    transformers = pytest.importorskip("transformers", reason="needs the extra [torch]")
    folder = tmp_path_factory.mktemp("language_model") / "tiny-lm"
    tokenizer = train_tokenizer(TEXTS, ["<bos>", "<eos>"], "<bos> $A")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", model_max_length=512
    ).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=192,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short messages, so that a step takes milliseconds."""
    folder = tmp_path_factory.mktemp("messages")
    (folder / "system_ft_v5.txt").write_text("Rate.\n")
    (folder / "classifier_ft_v5.txt").write_text("Q: {question}\n")
    return folder


@pytest.fixture(scope="session")
def task() -> PairRows:
    """Sums that the weak model gets wrong, greetings that both get right; on one row in ten it is the other way."""
    generator = np.random.default_rng(0)
    hard = np.arange(240) % 2 == 0
    noisy = generator.random(240) < 0.1
    return PairRows(
        prompts=tuple(
            f"Compute {row} * {row + 7}." if is_hard else f"Say hello to guest {row}."
            for row, is_hard in enumerate(hard)
        ),
        weights=np.ones(240),
        places=tuple(f"row {row}" for row in range(240)),
        licences=("MIT",),
        strong=np.ones(240),
        weak=np.where(noisy, hard, ~hard).astype(np.float64),
    )
