"""The loop that both transformers share: going on after an interruption, its state on disk, weights and batches."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("transformers", reason="needs the extra [torch]")

import torch
from safetensors.numpy import load_file

from routellm_core.errors import CheckpointError, ConfigError
from routellm_core.routers.transformer.batching import resolve_device
from routellm_core.training.finetuning import transformer
from routellm_core.training.finetuning.loop import Finetuning, LabelledRows
from routellm_core.training.finetuning.options import FinetuningOptions
from routellm_core.training.finetuning.state import FinetuningState, Position
from routellm_core.training.train_bert import BertOptions, train_bert
from routellm_core.training.train_causal_llm import CausalLLMOptions, train_causal_llm

pytestmark = pytest.mark.usefixtures("one_thread")
PAIR = {"strong_model": "l", "weak_model": "s"}


class Interrupted(BaseException):
    """Stands for Ctrl-C, a kill, a power cut: nothing of the library catches it."""


def interrupt_when(condition):
    def report(progress):
        if condition(progress):
            raise Interrupted

    return report


@pytest.fixture(params=["bert", "causal_llm"])
def train(request, encoder, language_model, messages, task):
    """A function that trains one of the two into a folder."""
    common = {
        "epochs": 3,
        "learning_rate": 1e-3,
        "device": "cpu",
        "token_budget": 600,
        "accumulation": 2,
        "save_steps": 2,
    }

    def train_to(folder, **given):
        tuning = {**common, **given.pop("tuning", {})}
        if request.param == "bert":
            options = BertOptions(from_scratch=True, max_tokens=32, **tuning)
            return train_bert(task, output=folder, base=encoder, options=options, **PAIR, **given)
        options = CausalLLMOptions(max_tokens=80, messages=messages, **tuning)
        return train_causal_llm(task, output=folder, base=language_model, options=options, **PAIR, **given)

    return train_to


def test_an_interrupted_training_ends_with_the_same_weights(train, tmp_path):
    whole = train(tmp_path / "whole")
    for moment in (lambda p: p.step == 5, lambda p: p.epoch == 2 and p.held_out_loss, lambda p: p.step == p.steps - 1):
        with pytest.raises(Interrupted):
            train(tmp_path / "resumed", on_progress=interrupt_when(moment))
        state = tmp_path / "resumed" / "training_state"
        assert {file.suffix for file in state.rglob("*") if file.is_file()} == {".json", ".safetensors"}
    seen = []
    resumed = train(tmp_path / "resumed", on_progress=seen.append)
    assert seen[0].loss is None  # says that it goes on
    assert seen[0].step > seen[0].steps // 2
    assert resumed.facts["held_out_losses"] == whole.facts["held_out_losses"]
    weights = [(result.folder / "model.safetensors").read_bytes() for result in (whole, resumed)]
    assert weights[0] == weights[1]
    np.testing.assert_array_equal(resumed.held_out.scores["trained"], whole.held_out.scores["trained"])
    assert not (tmp_path / "resumed" / "training_state").exists()


def test_an_interruption_after_the_last_step_repeats_no_step(train, tmp_path, monkeypatch):
    def interrupted(_held_out, **_options):
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(transformer, "measured", interrupted)
        with pytest.raises(Interrupted):
            train(tmp_path / "a")
    assert not (tmp_path / "a" / "model.safetensors").exists()  # a checkpoint is published whole or not at all
    seen = []
    train(tmp_path / "a", on_progress=seen.append)
    assert [progress.loss for progress in seen] == [None]
    train(tmp_path / "b")
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("a", "b")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "a" / "training_state").exists()


def test_a_state_of_other_options_is_refused_until_restarted(train, tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path / "a", on_progress=interrupt_when(lambda p: p.step == 4))
    with pytest.raises(ConfigError, match=r"another training \(learning_rate was 0\.001, is 0\.01\)"):
        train(tmp_path / "a", tuning={"learning_rate": 1e-2})
    with pytest.raises(ConfigError, match="seed was 0, is 1"):
        train(tmp_path / "a", seed=1)
    first = []
    train(tmp_path / "a", tuning={"learning_rate": 1e-2, "epochs": 1}, restart=True, on_progress=first.append)
    assert first[0].step == 1
    assert not (tmp_path / "a" / "training_state").exists()


def test_how_often_the_state_is_saved_may_change(train, tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path / "a", on_progress=interrupt_when(lambda p: p.step == 4))
    seen = []
    with pytest.raises(Interrupted):
        train(tmp_path / "a", tuning={"save_steps": 0}, on_progress=interrupt_when(lambda p: seen.append(p) or p.loss))
    assert seen[0].step == 4


class Averages(torch.nn.Module):
    """Label logits that do not depend on the prompt: trained, they are the logarithms of the labels' shares."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(3))
        self.batches = []

    @property
    def device(self):
        return self.bias.device


class Constant:
    def __init__(self):
        self.model = Averages()

    def encode(self, prompts):
        raise NotImplementedError

    def label_logits(self, batch):
        return self.model.bias.expand(len(batch), 3)

    def losses(self, batch, labels):
        self.model.batches.append(len(batch))
        return torch.nn.functional.cross_entropy(self.label_logits(batch), labels, reduction="none")


def rows(labels, weights=None, lengths=None):
    count = len(labels)
    return LabelledRows(
        encoded=[{"input_ids": [0] * length} for length in (lengths or [4] * count)],
        labels=np.array(labels),
        weights=np.ones(count) if weights is None else np.array(weights, dtype=float),
        train=np.arange(count - 10),
        held_out=np.arange(count - 10, count),
    )


def fitted(data, folder, **given):
    learner = Constant()
    defaults = {"epochs": 80, "patience": 80, "learning_rate": 0.1, "token_budget": 10_000, "accumulation": 2}
    options = FinetuningOptions(**{**defaults, **given})
    losses = Finetuning(learner, data, options, seed=0, state=FinetuningState(folder, {})).run()
    return learner.model, losses


LABELS = [0, 0, 0, 1, 1, 1, 1, 1, 1, 2] * 5


def test_it_finds_the_shares_of_the_labels(tmp_path):
    model, losses = fitted(rows(LABELS), tmp_path)
    np.testing.assert_allclose(model.bias.softmax(0).detach(), [0.3, 0.6, 0.1], atol=0.03)
    # The entropy of the shares is the least that is possible, and what is reported.
    assert min(losses) == pytest.approx(-(0.3 * np.log(0.3) + 0.6 * np.log(0.6) + 0.1 * np.log(0.1)), abs=0.01)


def test_weights_count_like_repetitions(tmp_path):
    weights = [{0: 2.0, 1: 0.5, 2: 3.0}[label] for label in LABELS]  # shares 0.6, 0.3 and 0.3 of 1.2
    model, _ = fitted(rows(LABELS, weights), tmp_path)
    np.testing.assert_allclose(model.bias.softmax(0).detach(), [0.5, 0.25, 0.25], atol=0.03)


def test_balanced_classes_weigh_alike(tmp_path):
    model, _ = fitted(rows(LABELS), tmp_path, class_balance=True)
    np.testing.assert_allclose(model.bias.softmax(0).detach(), [1 / 3] * 3, atol=0.03)


def test_balance_of_a_label_that_only_the_held_out_rows_have(tmp_path):
    model, _ = fitted(rows([0, 1] * 10 + [2] * 10), tmp_path, class_balance=True, epochs=1)
    assert torch.isfinite(model.bias).all()


def test_accumulated_small_batches_are_one_large_batch(tmp_path):
    data = rows(LABELS, lengths=[4] * 50)
    large, losses = fitted(data, tmp_path / "large", epochs=2, token_budget=32 * 4, accumulation=1)
    small, small_losses = fitted(data, tmp_path / "small", epochs=2, token_budget=8 * 4, accumulation=5)
    assert large.batches[:2] == [32, 8] or large.batches[:2] == [8, 32]
    assert set(small.batches) == {8}
    assert len(losses) == len(small_losses) == 2
    # 40 rows in five batches of 8 make one step; the gradient does not depend on their order.
    assert small.batches == [8] * 10
    once, _ = fitted(data, tmp_path / "once", epochs=2, token_budget=10_000, accumulation=2)
    torch.testing.assert_close(small.bias, once.bias)


def test_token_budget_counts_padding(tmp_path):
    model, _ = fitted(rows(LABELS, lengths=[10] + [2] * 49), tmp_path, epochs=1, token_budget=20, accumulation=1)
    assert sorted(model.batches, reverse=True)[0] == 10  # short prompts, ten in 20 tokens
    assert 2 in model.batches  # the long prompt takes half of a batch


def test_it_stops_when_held_out_rows_get_worse_and_keeps_the_best(tmp_path):
    data = rows([0] * 30 + [1] * 10)  # what is learned is wrong for the rows stopped by
    model, losses = fitted(data, tmp_path, patience=2, epochs=30)
    assert len(losses) == 3
    assert losses[0] == min(losses)
    one_epoch, _ = fitted(data, tmp_path / "one", epochs=30, patience=1)
    torch.testing.assert_close(model.bias, one_epoch.bias)


def test_a_damaged_state_says_so(train, tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, on_progress=interrupt_when(lambda p: p.step == 5))
    state = tmp_path / "training_state"
    (step,) = state.glob("step-4-*")
    (step / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"is damaged: .*Restart to discard it"):
        train(tmp_path)
    (state / "state.json").write_text('{"format": "routellm-finetuning/1", "run": {}}')
    with pytest.raises(CheckpointError, match="not a training's state"):
        train(tmp_path)


def test_files_that_no_state_names_are_of_no_consequence(tmp_path):
    """A kill while files are written leaves them incomplete; the state before stays the one that counts."""
    state = FinetuningState(tmp_path, {"seed": 1})
    model = torch.nn.Linear(2, 1)
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu", enabled=False)
    state.save(Position(4), model, optimizer, scaler)
    (tmp_path / "training_state" / "step-6-0").mkdir()
    (tmp_path / "training_state" / "step-6-0" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "training_state" / "best-1.safetensors").write_bytes(b"half")
    assert state.position() == Position(4)
    state.save(Position(6, (0.5,)), model, optimizer, scaler)
    assert state.position() == Position(6, (0.5,))
    assert sorted(path.name for path in (tmp_path / "training_state").iterdir()) == [
        "best-1.safetensors",
        "state.json",
        "step-6-1",
    ]


def test_optimizer_and_weights_survive_the_disk(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = FinetuningState(tmp_path, {})

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    step(model, optimizer)
    state.save(Position(1), model, optimizer, scaler)
    assert set(load_file(tmp_path / "training_state/step-1-0/optimizer.safetensors")) == {
        f"{number}.{name}" for number in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    state.restore(Position(1), other, other_optimizer, scaler)
    for pair in ((model, optimizer), (other, other_optimizer)):
        step(*pair)
    assert torch.equal(model.weight, other.weight)


def test_a_file_in_the_folder_s_place_is_refused_before_training(train, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        train(tmp_path / "taken")


def test_out_of_memory_says_what_to_lower(tmp_path, monkeypatch):
    def full(_self, _batch, _labels):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Constant, "losses", full)
    with pytest.raises(ConfigError, match="32 prompts of up to 4 tokens; lower the token budget"):
        fitted(rows(LABELS), tmp_path)


def test_the_learning_rate_warms_up_and_falls(tmp_path):
    rates = []
    learner = Constant()
    options = FinetuningOptions(epochs=20, patience=20, learning_rate=0.5, token_budget=10_000, accumulation=2)
    loop = Finetuning(learner, rows(LABELS), options, seed=0, state=FinetuningState(tmp_path, {}))
    loop.run(lambda progress: progress.loss and rates.append(loop._optimizer.param_groups[0]["lr"]))
    # 20 steps, 2 of them of warming up
    np.testing.assert_allclose(rates[:3], [0.25, 0.5, 0.5])
    np.testing.assert_allclose(rates[-1], 0.5 / 18)
    assert (np.diff(rates[2:]) < 0).all()


@pytest.mark.gpu
def test_gpu_goes_on_after_an_interruption(train, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert resolve_device("auto").type == "cuda"
    tuning = {"device": "cuda"}
    whole = train(tmp_path / "whole", tuning=tuning)
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", tuning=tuning, on_progress=interrupt_when(lambda p: p.step == 5))
    resumed = train(tmp_path / "resumed", tuning=tuning)
    expected = json.loads((whole.folder / "training.json").read_text())["held_out_losses"]
    np.testing.assert_allclose(resumed.facts["held_out_losses"], expected, rtol=0.02)
