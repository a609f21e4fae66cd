from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file

from routellm_core.errors import CheckpointError, ConfigError, ScoringError
from routellm_core.routers.base import checked_scores
from routellm_core.routers.transformer.bert import BERTRouter, strong_win_rates
from routellm_core.testing.contract import RouterContract


class TestContract(RouterContract):
    tolerance = 1e-5

    @pytest.fixture(autouse=True)
    def _checkpoint(self, bert_checkpoint):
        self.checkpoint = bert_checkpoint

    def make_router(self):
        return BERTRouter(checkpoint_path=self.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def router(bert_checkpoint):
    return BERTRouter(checkpoint_path=bert_checkpoint, device="cpu")


def one_at_a_time(checkpoint, prompts) -> list[float]:
    """RouteLLM's way: tokenise, run and softmax one prompt."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=3).eval()
    results = []
    for prompt in prompts:
        text = prompt.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            probabilities = torch.softmax(model(**inputs).logits[0], dim=0)
        results.append(float(1 - probabilities[-2:].sum()))
    return results


def test_golden_softmax(golden, read_json):
    data = read_json(golden / "bert_softmax.json")
    np.testing.assert_allclose(strong_win_rates(data["logits"]), data["win_rates"], atol=1e-6)


def test_equals_one_prompt_at_a_time(router, bert_checkpoint, texts):
    scores = router.score(texts)
    np.testing.assert_allclose(scores, one_at_a_time(bert_checkpoint, texts), atol=1e-5)
    assert scores.max() - scores.min() > 0.1


def test_batch_equals_single_in_any_order(router, texts):
    together = checked_scores(router, texts * 4)
    alone = [router.calculate_strong_win_rate(text) for text in texts]
    np.testing.assert_allclose(together, alone * 4, atol=1e-5)
    np.testing.assert_allclose(router.score(texts[::-1]), together[: len(texts)][::-1], atol=1e-5)


@pytest.mark.parametrize("token_budget", [1, 70, 1000])
def test_token_budget_changes_nothing(router, bert_checkpoint, texts, token_budget):
    other = BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", token_budget=token_budget)
    np.testing.assert_allclose(other.score(texts), router.score(texts), atol=1e-5)


def test_windows_change_nothing(router, texts, monkeypatch):
    expected = router.score(texts * 3)
    monkeypatch.setattr(BERTRouter, "window", 4)
    np.testing.assert_allclose(router.score(texts * 3), expected, atol=1e-5)


def test_long_prompts_are_cut_as_stated(router):
    words = "word " * 250_000
    assert "64 tokens" in router.prompt_limit  # 66 positions, two of them before the first token
    assert router.score([words]) == pytest.approx(router.score([words[:2000]]))


def test_max_tokens(router, bert_checkpoint):
    shorter = BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", max_tokens=8)
    text = "word " * 100
    assert shorter.score([text]) != pytest.approx(router.score([text]))
    assert shorter.fingerprint != router.fingerprint
    for wrong in (65, 2, 0):
        with pytest.raises(ConfigError, match=f"max_tokens is {wrong}"):
            BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", max_tokens=wrong)


def test_empty_list(router):
    assert router.score([]).shape == (0,)


def test_threads(router, texts):
    expected = router.score(texts)
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: router.score(texts[n:] + texts[:n])})) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        np.testing.assert_allclose(np.roll(results[number], number), expected, atol=1e-5)


def test_out_of_memory_halves_the_batch(router, texts, monkeypatch):
    import torch

    expected = router.score(texts)
    forward = router._model.forward
    sizes = []

    def limited(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(router._model, "forward", limited)
    np.testing.assert_allclose(router.score(texts), expected, atol=1e-5)
    assert sizes[:4] == [10, 5, 2, 2]


def test_nan_does_not_leave(bert_checkpoint, copy_checkpoint):
    folder = copy_checkpoint(bert_checkpoint)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.out_proj.bias"] = np.full(3, np.nan, dtype=np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="NaN"):
        BERTRouter(checkpoint_path=folder, device="cpu").score(["hello"])


def test_pickling_reloads_the_checkpoint(router, texts):
    data = pickle.dumps(router)
    assert len(data) < 2000
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy.score(texts), router.score(texts))
    assert copy.fingerprint == router.fingerprint


def test_hub_id(hub_cache, bert_checkpoint, router, texts):
    hub_cache(bert_checkpoint, "someone/bert")
    loaded = BERTRouter(checkpoint_path="someone/bert", device="cpu")
    np.testing.assert_array_equal(loaded.score(texts), router.score(texts))


def test_progress_on_request(bert_checkpoint, texts, capsys):
    BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", show_progress=True).score(texts)
    assert "10/10" in capsys.readouterr().err


def test_describe_and_fingerprint(router, bert_checkpoint):
    facts = router.describe()
    assert (facts["router"], facts["device"], facts["dtype"]) == ("bert", "cpu", "float32")
    half = BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", dtype="bfloat16")
    assert half.fingerprint != router.fingerprint
    assert str(bert_checkpoint) not in router.fingerprint


def test_pickled_weights_are_refused_by_name(bert_checkpoint, copy_checkpoint):
    folder = copy_checkpoint(bert_checkpoint)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        BERTRouter(checkpoint_path=folder, device="cpu")


def test_truncated_file(bert_checkpoint, copy_checkpoint):
    file = copy_checkpoint(bert_checkpoint) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable"):
        BERTRouter(checkpoint_path=file.parent, device="cpu")


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_missing_or_misshapen_weight(bert_checkpoint, copy_checkpoint, change):
    file = copy_checkpoint(bert_checkpoint) / "model.safetensors"
    weights = load_file(file)
    weight = weights.pop("classifier.dense.weight")
    if change == "shape":
        weights["classifier.dense.weight"] = np.ascontiguousarray(weight[:5])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        BERTRouter(checkpoint_path=file.parent, device="cpu")


def test_other_number_of_labels(bert_checkpoint):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", num_labels=4)
    with pytest.raises(ConfigError, match="num_labels is 2"):
        BERTRouter(checkpoint_path=bert_checkpoint, device="cpu", num_labels=2)


def test_sharded_checkpoint(bert_checkpoint, copy_checkpoint, router, texts):
    folder = copy_checkpoint(bert_checkpoint)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": keys[::2], "model-00002-of-00002.safetensors": keys[1::2]}
    for name, part in shards.items():
        save_file({key: weights[key] for key in part}, folder / name, metadata={"format": "pt"})
    weight_map = {key: name for name, part in shards.items() for key in part}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(BERTRouter(checkpoint_path=folder, device="cpu").score(texts), router.score(texts))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="00002-of-00002"):
        BERTRouter(checkpoint_path=folder, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json(bert_checkpoint, copy_checkpoint, name):
    folder = copy_checkpoint(bert_checkpoint)
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError):
        BERTRouter(checkpoint_path=folder, device="cpu")


def test_code_in_a_checkpoint_is_not_run(bert_checkpoint, copy_checkpoint):
    folder = copy_checkpoint(bert_checkpoint)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "custom"
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError):
        BERTRouter(checkpoint_path=folder, device="cpu")


def test_no_such_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        BERTRouter(checkpoint_path=tmp_path / "nowhere", device="cpu")


@pytest.mark.gpu
def test_gpu_equals_cpu(router, bert_checkpoint, texts):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    exact = BERTRouter(checkpoint_path=bert_checkpoint, device="cuda", dtype="float32")
    np.testing.assert_allclose(exact.score(texts), router.score(texts), atol=1e-4)
    half = BERTRouter(checkpoint_path=bert_checkpoint, device="cuda")
    np.testing.assert_allclose(half.score(texts), router.score(texts), atol=0.05)
