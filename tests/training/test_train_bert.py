"""``bert`` from a configuration to a router, end to end, on a model small enough for any machine."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [torch]")

import torch

from routellm_core.errors import CheckpointError, ConfigError
from routellm_core.routers.registry import load_router
from routellm_core.routers.transformer.bert import BERTRouter
from routellm_core.rows.labelled import PairRows
from routellm_core.training.crossfit import group_numbers, grouped_folds
from routellm_core.training.train_bert import BertOptions, outcome_labels, train_bert

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = BertOptions(
    from_scratch=True, epochs=12, patience=5, learning_rate=3e-3, max_tokens=32, token_budget=512, device="cpu"
)
PAIR = {"strong_model": "l", "weak_model": "s"}


@pytest.fixture(scope="module")
def trained(one_thread, encoder, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert") / "mine"
    return train_bert(task, output=folder, base=encoder, options=OPTIONS, **PAIR)


def log_loss(probability, happened):
    return -np.mean(np.where(happened, np.log(probability), np.log(1 - probability)))


def test_it_beats_the_share_of_wins_on_rows_it_has_not_seen(trained):
    held_out = trained.held_out
    happened = held_out.strong > held_out.weak
    assert len(happened) == 24
    assert log_loss(held_out.scores["trained"], happened) < 0.75 * log_loss(happened.mean(), happened)


def test_it_learns_and_loads(trained):
    router = BERTRouter(checkpoint_path=trained.folder, device="cpu")
    sums, greetings = router.score(["Compute 31 * 17.", "Say hello to guest 900."])
    assert sums > 0.75
    assert greetings < 0.25
    assert {file.name for file in trained.folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "routing.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }


def test_reference_quantiles_are_those_of_rows_that_were_not_fitted(trained, task):
    router = load_router("bert", {"checkpoint_path": str(trained.folder), "device": "cpu"})
    # Two tenths: one that training stopped by, one that it was measured on.
    parts = grouped_folds(group_numbers(task.prompts), count=10)
    unseen = [prompt for prompt, part in zip(task.prompts, parts, strict=True) if part < 2]
    expected = np.quantile(router.score(unseen), np.linspace(0, 1, 1001))
    np.testing.assert_allclose(router.reference_quantiles, expected, atol=1e-6)
    assert (
        "48 rows that no weight was fitted to"
        in json.loads((trained.folder / "routing.json").read_text())["reference_traffic"]
    )
    assert load_router("bert", {"checkpoint_path": str(trained.folder), "max_tokens": 20}).reference_quantiles is None
    assert "32 tokens" in router.prompt_limit  # where training cut, though the model takes 40


def test_the_card_and_the_facts(trained):
    facts = json.loads((trained.folder / "training.json").read_text())
    assert facts["held_out_losses"][0] > min(facts["held_out_losses"])
    assert facts["start"] == "the configuration of tiny"
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["held_out"]["rows"] == 24
    card = (trained.folder / "README.md").read_text()
    assert "three-label classifier" in card
    assert "calibrate on your own traffic" in card
    assert str(trained.folder.parent) not in card + json.dumps(facts)


def test_it_repeats_and_leaves_the_generator_alone(encoder, task, trained, tmp_path):
    before = torch.random.get_rng_state()
    again = train_bert(task, output=tmp_path / "b", base=encoder, options=OPTIONS, **PAIR)
    assert torch.equal(before, torch.random.get_rng_state())
    first, second = (result.folder / "model.safetensors" for result in (trained, again))
    assert first.read_bytes() == second.read_bytes()


def test_a_trained_checkpoint_can_be_trained_further(trained, task, tmp_path):
    options = BertOptions(epochs=1, learning_rate=1e-5, max_tokens=32, device="cpu")
    seen = []
    result = train_bert(
        task, output=tmp_path / "further", base=trained.folder, options=options, on_progress=seen.append, **PAIR
    )
    assert seen[-1].held_out_loss == pytest.approx(min(trained.facts["held_out_losses"]), abs=0.02)
    assert result.facts["start"] == "mine"


def test_labels():
    rows = PairRows(
        prompts=("a", "b", "c"),
        weights=np.ones(3),
        places=("1", "2", "3"),
        licences=(),
        strong=np.array([2.0, 1.0, 0.0]),
        weak=np.array([1.0, 1.0, 4.0]),
    )
    assert outcome_labels(rows).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
        ({"learning_rate": 0.0}, "learning rate is 0"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"save_steps": -1}, "save_steps is -1"),
        ({"precision": "int8"}, "precision 'int8'"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        BertOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 1e30}, "lower the learning rate"),
        ({"max_tokens": 4000}, "max_tokens is 4000; this checkpoint takes 3 to 40"),
        ({"precision": "float16"}, "needs a CUDA device"),
        ({"device": "cuda:99"}, "not available here"),
    ],
)
def test_what_this_base_or_machine_cannot_do(encoder, task, tmp_path, options, message):
    chosen = BertOptions(**{"from_scratch": True, "epochs": 1, "device": "cpu", **options})
    with pytest.raises(ConfigError, match=message):
        train_bert(task, output=tmp_path, base=encoder, options=chosen, **PAIR)


def test_bases_that_cannot_be_trained(encoder, task, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):  # a configuration without weights
        train_bert(task, output=tmp_path / "out", base=encoder, **PAIR)
    config = json.loads((encoder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match="quantised model, whose weights cannot be trained"):
        train_bert(task, output=tmp_path / "out", base=tmp_path, **PAIR)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    for file in encoder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="could not be loaded as AutoModelForSequenceClassification"):
        train_bert(task, output=tmp_path / "out", base=tmp_path, options=OPTIONS, **PAIR)


@pytest.mark.gpu
def test_gpu_learns_the_same(encoder, task, trained, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = BertOptions(**{**vars(OPTIONS), "device": "cuda"})
    result = train_bert(task, output=tmp_path / "gpu", base=encoder, options=options, **PAIR)
    held_out = result.held_out
    happened = held_out.strong > held_out.weak
    assert log_loss(held_out.scores["trained"], happened) < 0.75 * log_loss(happened.mean(), happened)
