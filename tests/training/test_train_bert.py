"""``bert`` from a configuration to a router, end to end, on a model small enough for any machine."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [torch]")

import torch
import transformers

from routellm_core.errors import ConfigError
from routellm_core.evals.held_out import compare_held_out
from routellm_core.routers.bert import BERTRouter
from routellm_core.training.rows import PairRows
from routellm_core.training.train_bert import BertOptions, train_bert

OPTIONS = BertOptions(
    from_scratch=True, epochs=15, patience=5, learning_rate=3e-3, max_tokens=32, token_budget=512, device="cpu"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A configuration and a tokenizer, no weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", "Compute", "Say", "hello", "to", "guest", "*", ".", *map(str, range(10))]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=32,
    ).save_pretrained(folder)
    transformers.XLMRobertaConfig(
        vocab_size=len(words),
        hidden_size=32,
        initializer_range=0.2,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
        pad_token_id=1,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows():
    hard = np.arange(200) % 2 == 0
    prompts = tuple(
        f"Compute {row} * {row + 7}." if row % 2 == 0 else f"Say hello to guest {row}." for row in range(200)
    )
    return PairRows(
        prompts=prompts,
        weights=np.ones(200),
        places=tuple(map(str, range(200))),
        licences=("MIT",),
        strong=np.ones(200),
        weak=1.0 - hard,
    )


@pytest.fixture(scope="module")
def trained(encoder, rows, tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bert") / "mine"
    yield train_bert(
        rows, output=folder, strong_model="l", weak_model="s", model=encoder, options=OPTIONS, compare=compare_held_out
    )
    torch.set_num_threads(threads)


def test_it_learns_and_loads(trained):
    router = BERTRouter(checkpoint_path=trained.folder, device="cpu")
    sums, greetings = router.score(["Compute 31 * 17.", "Say hello to guest 900."])
    assert sums > 0.8
    assert greetings < 0.2
    assert (trained.folder / "model.safetensors").is_file()
    assert not list(trained.folder.glob("*.bin"))


def test_the_card_and_the_facts(trained):
    facts = json.loads((trained.folder / "training.json").read_text())
    assert facts["held_out_losses"][0] > min(facts["held_out_losses"])
    assert facts["start"] == "the configuration of tiny"
    assert facts["held_out"]["rows"] == 20
    card = (trained.folder / "README.md").read_text()
    assert "three-label classifier" in card
    assert str(trained.folder.parent) not in card + json.dumps(facts)


def test_it_repeats_and_leaves_the_generator_alone(encoder, rows, trained, tmp_path):
    before = torch.random.get_rng_state()
    again = train_bert(rows, output=tmp_path / "b", strong_model="l", weak_model="s", model=encoder, options=OPTIONS)
    assert torch.equal(before, torch.random.get_rng_state())
    first, second = (result.folder / "model.safetensors" for result in (trained, again))
    assert first.read_bytes() == second.read_bytes()


def test_a_trained_checkpoint_can_be_trained_further(trained, rows, tmp_path):
    options = BertOptions(epochs=1, learning_rate=1e-5, max_tokens=32, device="cpu")
    epochs = []
    result = train_bert(
        rows,
        output=tmp_path / "further",
        strong_model="l",
        weak_model="s",
        model=trained.folder,
        options=options,
        on_epoch=lambda epoch, loss: epochs.append((epoch, loss)),
    )
    assert epochs[0][1] < 0.3
    assert result.facts["start"] == "mine"


@pytest.mark.parametrize("options", [{"epochs": 0}, {"learning_rate": float("nan")}, {"learning_rate": 0.0}])
def test_senseless_options_are_refused(options):
    with pytest.raises(ConfigError, match="learning rate"):
        BertOptions(**options)


def test_a_loss_that_is_no_number_is_an_error(encoder, rows, tmp_path):
    options = BertOptions(from_scratch=True, epochs=1, learning_rate=1e30, max_tokens=32, device="cpu")
    with pytest.raises(ConfigError, match="lower the learning rate"):
        train_bert(rows, output=tmp_path, strong_model="l", weak_model="s", model=encoder, options=options)
