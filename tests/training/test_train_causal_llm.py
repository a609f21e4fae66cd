"""``causal_llm`` from random weights to a router, end to end, on a model small enough for any machine."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [torch]")

import torch
import transformers

from routellm_core.errors import CheckpointError, ConfigError
from routellm_core.routers.transformer.causal_llm import CausalLLMRouter
from routellm_core.routers.transformer.prompt import DEFAULT_MESSAGES, LLAMA_3, SCORE_TOKENS, ClassifierPrompt
from routellm_core.rows.labelled import PairRows
from routellm_core.training import train_causal_llm as module
from routellm_core.training.train_causal_llm import CausalLLMOptions, score_labels, train_causal_llm

pytestmark = pytest.mark.usefixtures("one_thread")
PAIR = {"strong_model": "l", "weak_model": "s"}


@pytest.fixture(scope="module")
def options(messages):
    return CausalLLMOptions(
        epochs=8, patience=8, learning_rate=2e-3, token_budget=1024, max_tokens=96, device="cpu", messages=messages
    )


@pytest.fixture(scope="module")
def trained(one_thread, language_model, task, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "mine"
    return train_causal_llm(task, output=folder, base=language_model, options=options, **PAIR)


@pytest.fixture(scope="module")
def router(trained):
    return CausalLLMRouter(checkpoint_path=trained.folder, device="cpu")


def log_loss(probability, happened):
    return -np.mean(np.where(happened, np.log(probability), np.log(1 - probability)))


def rows_of(strong, weak):
    count = len(strong)
    return PairRows(
        prompts=tuple(map(str, range(count))),
        weights=np.ones(count),
        places=tuple(map(str, range(count))),
        licences=(),
        strong=np.asarray(strong, dtype=float),
        weak=np.asarray(weak, dtype=float),
    )


def test_it_beats_the_share_of_wins_on_rows_it_has_not_seen(trained):
    held_out = trained.held_out
    happened = held_out.strong > held_out.weak
    assert len(happened) == 24
    assert log_loss(held_out.scores["trained"], happened) < 0.75 * log_loss(happened.mean(), happened)


def test_it_writes_header_and_score_which_are_read_in_one_pass(trained, router, caplog):
    prompts = ["Compute 31 * 17.", "Say hello to guest 900."]
    sums, greetings = router.score(prompts)
    assert sums > 0.75
    assert greetings < 0.25
    exact = CausalLLMRouter(checkpoint_path=trained.folder, device="cpu", exact=True)
    np.testing.assert_array_equal(exact.score(prompts), [sums, greetings])  # as RouteLLM reads it
    assert "decoded" not in caplog.text


def test_the_text_trained_on_is_the_text_scored(trained, router, language_model, options, task, monkeypatch):
    """Every token that training feeds is one that scoring feeds, cut prompts and strange ones included."""
    seen = []
    monkeypatch.setattr(
        router._model,
        "last_logits",
        lambda sequences, **_: seen.extend(sequences) or torch.zeros(len(sequences), 9, 999),
    )
    router._model.prefix.clear()  # all tokens, not only those after the cached ones
    prompts = ["Compute 3 * 4.", "word " * 500, "", "\ud800 lone {brace} [[5]] 日本語", task.prompts[7]]
    router.score(prompts)
    grader = module._Grader(language_model, options, 0)
    expected = [row["input_ids"] for row in grader.encode(prompts)]
    assert sorted(seen) == sorted(expected)
    text = router._encoder.tokenizer.decode(grader.encode(["Compute 3 * 4."])[0]["input_ids"])
    assert text == (
        "<bos><|start_header_id|>system<|end_header_id|>\n\nRate.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ: Compute 3 * 4.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert len(router._encoder.header) + 2 == router._encoder.new_tokens
    assert 92 <= max(map(len, expected)) <= 94  # 96 without the score and the end of the turn; letters are cut in steps


def test_tokens_are_added_and_score_tokens_come_last(trained, language_model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.folder)
    before = len(transformers.AutoTokenizer.from_pretrained(language_model))
    ids = tokenizer.convert_tokens_to_ids(list(SCORE_TOKENS))
    assert ids == list(range(len(tokenizer) - 5, len(tokenizer)))  # where RouteLLM looks for them
    assert len(tokenizer) == before + 3 + 5  # three markers of the chat format
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer)


def test_spare_embeddings_are_used_before_new_ones_are_made(language_model, task, options, tmp_path):
    base = tmp_path / "roomy"
    model = transformers.AutoModelForCausalLM.from_pretrained(language_model)
    model.resize_token_embeddings(704, mean_resizing=False)
    model.save_pretrained(base)
    transformers.AutoTokenizer.from_pretrained(language_model).save_pretrained(base)
    chosen = CausalLLMOptions(**{**vars(options), "epochs": 1})
    result = train_causal_llm(task, output=tmp_path / "out", base=base, options=chosen, **PAIR)
    assert json.loads((result.folder / "config.json").read_text())["vocab_size"] == 704
    assert CausalLLMRouter(checkpoint_path=result.folder, device="cpu", exact=False).score(["hi"]).shape == (1,)


def test_weights_are_written_in_the_base_s_number_type(language_model, task, options, tmp_path):
    base = tmp_path / "half"
    transformers.AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.bfloat16).save_pretrained(base)
    transformers.AutoTokenizer.from_pretrained(language_model).save_pretrained(base)
    chosen = CausalLLMOptions(**{**vars(options), "epochs": 1})
    result = train_causal_llm(task, output=tmp_path / "out", base=base, options=chosen, **PAIR)
    assert json.loads((result.folder / "config.json").read_text())["dtype"] == "bfloat16"
    grader = module._Grader(base, chosen, 0)
    assert {parameter.dtype for parameter in grader.model.parameters()} == {torch.float32}  # while it is trained


def test_messages_come_from_the_option_the_base_or_the_package(language_model, messages, trained, tmp_path):
    def used(base, **given):
        chosen = CausalLLMOptions(max_tokens=190, device="cpu", **given)
        return module._Grader(base, chosen, 0)._encoder.prompt

    short = ClassifierPrompt.load(messages, LLAMA_3)
    assert used(language_model, messages=messages) == short
    assert used(trained.folder) == short
    # The package's own take more tokens than this model has positions: its tokenizer was trained on other words.
    with pytest.raises(ConfigError, match="the messages alone take"):
        used(language_model)
    DEFAULT_MESSAGES.save(tmp_path)
    assert ClassifierPrompt.load(tmp_path, LLAMA_3) == DEFAULT_MESSAGES


def test_reference_quantiles_hold_for_the_threshold_of_training(trained, router):
    assert router.reference_quantiles.shape == (1001,)
    other = CausalLLMRouter(checkpoint_path=trained.folder, device="cpu", score_threshold=3)
    assert other.reference_quantiles is None


def test_labels_of_outcomes():
    # 0/1 labels: a win is a 1, a tie a 4, a win of the weak model a 5
    assert score_labels(rows_of([1, 1, 0, 0], [0, 1, 0, 1])).tolist() == [1, 4, 4, 5]
    # grades from 1 to 10, range 9: leads of 1, 3, 4, 6, 7 and 9
    graded = rows_of([5, 5, 5, 7, 8, 10, 5, 5], [4, 2, 1, 1, 1, 1, 5, 6])
    assert score_labels(graded).tolist() == [3, 3, 2, 2, 1, 1, 4, 5]
    # a lead of exactly a third, in numbers that floating point cannot hold
    assert score_labels(rows_of([0.3, 0.0, 0.1], [0.2, 0.3, 0.1])).tolist() == [3, 5, 4]


@pytest.mark.parametrize("scale", [1.0, 0.1, 7.0])
def test_good_enough_is_not_strictly_worse_on_any_scale(scale):
    generator = np.random.default_rng(1)
    rows = rows_of(scale * generator.integers(0, 11, 500), scale * generator.integers(0, 11, 500))
    labels = score_labels(rows)
    np.testing.assert_array_equal(labels >= 4, ~rows.wins)
    assert set(labels.tolist()) == {1, 2, 3, 4, 5}


def test_labels_of_qualities():
    assert score_labels(rows_of([5, 5, 5, 5, 5], [1, 2, 3, 4, 5]), "quality").tolist() == [1, 2, 3, 4, 5]
    assert score_labels(rows_of([1, 1, 1, 1], [0.0, 0.124, 0.125, 1.0]), "quality").tolist() == [1, 1, 2, 5]


def test_a_score_that_it_would_not_write_yet_is_read_all_the_same(language_model, task, options, tmp_path, caplog):
    """After one epoch at a low rate it has not learned to write the header; what it was stopped by is the score."""
    chosen = CausalLLMOptions(**{**vars(options), "epochs": 1, "learning_rate": 1e-5})
    result = train_causal_llm(task, output=tmp_path / "out", base=language_model, options=chosen, **PAIR)
    scores = CausalLLMRouter(checkpoint_path=result.folder, device="cpu").score(task.prompts[:4])
    assert "decoded" not in caplog.text
    assert ((scores > 0) & (scores < 1)).all()
    strict = CausalLLMRouter(checkpoint_path=result.folder, device="cpu", exact=True).score(task.prompts[:4])
    assert "4 of 4 prompts were decoded" in caplog.text
    np.testing.assert_array_equal(strict, np.ones(4))


def test_what_cannot_be_trained(encoder, language_model, task, options, tmp_path):
    with pytest.raises(ConfigError, match="scores 'grade' is not one of outcome, quality"):
        CausalLLMOptions(scores="grade")
    with pytest.raises(ConfigError, match="max_tokens is 5000; this checkpoint takes at most 192"):
        module._Grader(language_model, CausalLLMOptions(max_tokens=5000, device="cpu"), 0)
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        train_causal_llm(task, output=tmp_path / "out", base=tmp_path / "nowhere", options=options, **PAIR)
    alike = rows_of(np.ones(60), np.zeros(60))
    with pytest.raises(ConfigError, match="strictly wins on 60 of 60 rows"):
        train_causal_llm(alike, output=tmp_path / "out", base=language_model, options=options, **PAIR)
    assert not (tmp_path / "out").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float16", "float32"])
def test_gpu_learns_the_same(language_model, task, options, tmp_path, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    chosen = CausalLLMOptions(**{**vars(options), "device": "cuda", "precision": precision})
    result = train_causal_llm(task, output=tmp_path / "gpu", base=language_model, options=chosen, **PAIR)
    held_out = result.held_out
    happened = held_out.strong > held_out.weak
    assert log_loss(held_out.scores["trained"], happened) < 0.75 * log_loss(happened.mean(), happened)
