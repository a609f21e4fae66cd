from __future__ import annotations

import inspect
import pickle
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from routellm_core.errors import CheckpointError, ConfigError, MissingExtraError
from routellm_core.routers.base import checked_scores
from routellm_core.routers.transformer.causal_llm import CausalLLMRouter, strong_win_rates
from routellm_core.routers.transformer.prefix import PrefixedModel, _cache_parameter, common_prefix
from routellm_core.routers.transformer.prompt import LLAMA_3, ChatFormat, ClassifierPrompt
from routellm_core.testing.contract import RouterContract


class TestContract(RouterContract):
    tolerance = 2e-5

    @pytest.fixture(autouse=True)
    def _checkpoint(self, causal_checkpoint):
        self.checkpoint = causal_checkpoint

    def make_router(self):
        return CausalLLMRouter(checkpoint_path=self.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def trained(causal_checkpoint):
    return CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cpu")


def generate_and_search(checkpoint, prompts) -> list[float]:
    """RouteLLM's way, one prompt at a time: decode six tokens, take the first score token, softmax its logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_tokens([f"[[{score}]]" for score in range(1, 6)], special_tokens=True)
    first_score = len(tokenizer) - 5
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    template = ClassifierPrompt.load(checkpoint, LLAMA_3)
    results = []
    for prompt in prompts:
        text = template.render(prompt.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.no_grad():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=6,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
                output_scores=True,
                return_dict_in_generate=True,
            )
        new = output.sequences[0, ids.shape[1] :].tolist()
        step = next((index for index, token in enumerate(new) if token >= first_score), None)
        if step is None:
            results.append(1.0)
            continue
        probabilities = torch.softmax(output.scores[step][0, first_score:].double(), dim=0)
        results.append(float(1 - probabilities[3:].sum()))
    return results


def short(texts):
    return [text[:60] for text in texts]


def test_golden_win_rates(golden, read_json):
    data = read_json(golden / "causal_llm.json")
    logits = np.array([case["logits"] for case in data["cases"]])
    expected = [case["win_rate"] for case in data["cases"]]
    np.testing.assert_allclose(strong_win_rates(logits, data["score_threshold"]), expected, atol=1e-6)


def test_golden_prompts(golden, read_json):
    for case in read_json(golden / "causal_llm.json")["prompts"]:
        system, user = (message["content"] for message in case["messages"])
        classifier = user.replace(case["question"], "{question}", 1)
        rendered = ClassifierPrompt(system, classifier).render(case["question"])
        assert rendered == case["prompt"]


def test_single_pass_equals_generate_and_search(trained, causal_checkpoint, texts, caplog):
    prompts = [*short(texts), "never seen in training", "What is 2 + 2?"]
    scores = trained.score(prompts)
    assert "decoded" not in caplog.text  # every prompt was settled by the one pass
    np.testing.assert_allclose(scores, generate_and_search(causal_checkpoint, prompts), atol=2e-5)
    assert scores.max() - scores.min() > 0.5  # the comparison is between scores that differ


def test_a_model_that_writes_something_else_is_decoded(untrained_causal_checkpoint, texts, caplog):
    router = CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, device="cpu")
    prompts = short(texts)
    np.testing.assert_allclose(
        router.score(prompts), generate_and_search(untrained_causal_checkpoint, prompts), atol=2e-5
    )
    assert "decoded" in caplog.text


def test_inexact_reads_the_scores_regardless(untrained_causal_checkpoint, texts, caplog):
    router = CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, device="cpu", exact=False)
    scores = checked_scores(router, texts)
    assert "decoded" not in caplog.text
    assert 0 < scores.min() < scores.max() < 1
    assert router.fingerprint != CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, device="cpu").fingerprint


@pytest.mark.parametrize("prefixed", [True, False])
def test_prefix_cache_and_padding_change_nothing(untrained_causal_checkpoint, texts, prefixed):
    import torch

    router = CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, device="cpu")
    model, encoded = router._model, router._encoder.encode(short(texts))
    whole = [ids for ids in encoded if ids[: len(model.prefix)] == model.prefix]
    # The empty question's newline melts into the prefix; it takes the way without a cache.
    assert len(model.prefix) > 10
    assert len(whole) == len(encoded) - 1
    start = len(model.prefix) if prefixed else 0
    for _ in range(2):  # the second round would show a cache that the first one changed
        batched = model.last_logits([ids[start:] for ids in whole], count=3, prefixed=prefixed)
        for row, ids in enumerate(whole):
            with torch.no_grad():
                alone = model.model(input_ids=torch.tensor([ids])).logits[0, -3:].float()
            torch.testing.assert_close(batched[row], alone, atol=1e-4, rtol=1e-4)


def test_batch_equals_single_in_any_order(trained, texts):
    prompts = texts * 3
    together = checked_scores(trained, prompts)
    alone = [trained.calculate_strong_win_rate(text) for text in texts]
    np.testing.assert_allclose(together, alone * 3, atol=2e-5)
    np.testing.assert_allclose(trained.score(prompts[::-1]), together[::-1], atol=2e-5)


def test_token_budget_changes_nothing(trained, causal_checkpoint, texts):
    small = CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cpu", token_budget=1)
    np.testing.assert_allclose(small.score(texts), trained.score(texts), atol=2e-5)


def test_long_prompts_are_cut_to_fit(trained):
    scores = checked_scores(trained, ["word " * 250_000, "x" * 1_000_000])
    assert scores.shape == (2,)
    for ids in trained._encoder.encode(["word " * 1000]):
        assert trained._encoder.room - 5 <= len(ids) <= trained._encoder.room
        assert trained._encoder.tokenizer.decode(ids).endswith("Prediction:<|eot_id|>")
    assert str(trained._encoder.room) in trained.prompt_limit


def test_empty_list(trained):
    assert trained.score([]).shape == (0,)


def test_threads(trained, texts):
    expected = trained.score(texts)
    results: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: trained.score(texts)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_allclose(results[number], expected, atol=2e-5)


def test_pickling_reloads_the_checkpoint(trained, texts):
    data = pickle.dumps(trained)
    assert len(data) < 2000
    copy = pickle.loads(data)
    assert copy.fingerprint == trained.fingerprint
    np.testing.assert_array_equal(copy.score(texts), trained.score(texts))


@pytest.mark.filterwarnings("error")
def test_the_installed_transformers_has_nothing_against_our_calls(causal_checkpoint, texts):
    router = CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cpu")
    assert router.describe()["shared_prefix_tokens"] > 10
    router.score(texts)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_prefix_cache_goes_by_the_name_that_the_model_has_for_it(causal_checkpoint, texts, trained, name):
    router = CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cpu")
    model, expected = router._model.model, trained.score(texts)
    forward, real = type(model).forward, _cache_parameter(model)

    def renamed(input_ids=None, attention_mask=None, position_ids=None, use_cache=None, **rest):
        assert set(rest) <= {name}
        return forward(
            model, input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache,
            **dict.fromkeys([real] if rest else [], rest.get(name)),
        )  # fmt: skip

    signature = inspect.signature(renamed)
    parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    renamed.__signature__ = signature.replace(parameters=[*list(signature.parameters.values())[:-1], parameter])
    model.forward = renamed
    router._model = PrefixedModel(model, router._model.prefix, 1)
    assert router.describe()["shared_prefix_tokens"] > 10
    np.testing.assert_allclose(router.score(texts), expected, atol=1e-5)


def test_hub_id(hub_cache, causal_checkpoint, trained):
    hub_cache(causal_checkpoint, "someone/causal")
    router = CausalLLMRouter(checkpoint_path="someone/causal", device="cpu")
    assert router.fingerprint == trained.fingerprint


def test_tokenizer_from_model_id(copy_checkpoint, causal_checkpoint, trained, texts):
    folder = copy_checkpoint(causal_checkpoint)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    router = CausalLLMRouter(checkpoint_path=folder, model_id=str(causal_checkpoint), device="cpu")
    np.testing.assert_array_equal(router.score(texts), trained.score(texts))
    with pytest.raises(CheckpointError, match="tokenizer of nobody/nothing"):
        CausalLLMRouter(checkpoint_path=folder, model_id="nobody/nothing", device="cpu")


def test_describe(trained):
    facts = trained.describe()
    assert facts["router"] == "causal_llm"
    assert facts["dtype"] == "float32"
    assert facts["shared_prefix_tokens"] > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "encoder"}, "model_type 'encoder'"),
        ({"special_tokens": ["[[1]]", "[[2]]"]}, "special_tokens must be"),
        ({"num_outputs": 3}, "special_tokens must be"),
        ({"score_threshold": 0}, "score_threshold is 0"),
        ({"score_threshold": 6}, "score_threshold is 6"),
        ({"quantization": "2bit"}, "quantization '2bit'"),
        ({"max_tokens": 100_000}, "max_tokens is 100000"),
        ({"max_tokens": 30}, "messages alone take"),
        ({"prompt_format": "chatml"}, "prompt_format 'chatml'"),
        ({"prompt_format": {"system": "{instruction}"}}, "takes the keys"),
        ({"prompt_format": {"system": "", "user": "{instruction}", "assistant_header": ""}}, "must contain"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"dtype": "int4"}, "dtype 'int4'"),
    ],
)
def test_bad_options(untrained_causal_checkpoint, options, message):
    with pytest.raises(ConfigError, match=message):
        CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, **{"device": "cpu", **options})


def test_quantization_without_its_package_names_the_extra(untrained_causal_checkpoint, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match="quantize"):
        CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, quantization="8bit", device="cpu")


@pytest.mark.parametrize("name", ["system_ft_v5.txt", "classifier_ft_v5.txt"])
def test_missing_messages(copy_checkpoint, untrained_causal_checkpoint, name):
    folder = copy_checkpoint(untrained_causal_checkpoint)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        CausalLLMRouter(checkpoint_path=folder, device="cpu")


@pytest.mark.parametrize("text", ["no field", "{question} {other}", "{0}", "{"])
def test_classifier_message_must_have_the_question(tmp_path, text):
    (tmp_path / "system_ft_v5.txt").write_text("s")
    (tmp_path / "classifier_ft_v5.txt").write_text(text)
    with pytest.raises(CheckpointError, match=r"classifier_ft_v5\.txt"):
        ClassifierPrompt.load(tmp_path, LLAMA_3)


def test_model_without_room_for_the_score_tokens(copy_checkpoint, untrained_causal_checkpoint):
    from transformers import AutoModelForCausalLM

    folder = copy_checkpoint(untrained_causal_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size - 1)
    model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="not trained as a score classifier"):
        CausalLLMRouter(checkpoint_path=folder, device="cpu")


def test_other_chat_format(untrained_causal_checkpoint, texts):
    chat = {"system": "S: {instruction}\n", "user": "U: {instruction}\n", "assistant_header": "A:"}
    router = CausalLLMRouter(checkpoint_path=untrained_causal_checkpoint, device="cpu", prompt_format=chat, exact=False)
    assert checked_scores(router, texts).shape == (len(texts),)
    assert ChatFormat.from_option(chat) == router._encoder.prompt.chat


def test_common_prefix():
    assert common_prefix([1, 2, 3, 4], [1, 2, 5, 6]) == [1, 2]
    assert common_prefix([1, 2], [1, 2]) == [1]
    assert common_prefix([1], [2]) == []


def test_other_architectures():
    """Sliding windows, learned positions and no cache at all: the batched pass still equals a plain one."""
    import torch
    import transformers

    torch.manual_seed(0)
    mistral = transformers.MistralConfig(
        vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, max_position_embeddings=128,
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    mamba = transformers.MambaConfig(vocab_size=200, hidden_size=32, num_hidden_layers=2, state_size=4)
    for config in (mistral, gpt2, mamba):
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        prefixed = PrefixedModel(model, list(range(20)), 0)
        rests = [[50 + n, 51, 52 + n, *range(60, 60 + 3 * n)] for n in range(6)]
        use_cache = bool(prefixed.prefix)
        sequences = rests if use_cache else [[*range(20), *rest] for rest in rests]
        batched = prefixed.last_logits(sequences, count=2, prefixed=use_cache)
        for row, rest in enumerate(rests):
            with torch.no_grad():
                alone = model(input_ids=torch.tensor([[*range(20), *rest]])).logits[0, -2:]
            torch.testing.assert_close(batched[row], alone, atol=1e-4, rtol=1e-4, msg=type(model).__name__)


@pytest.mark.gpu
def test_gpu_equals_cpu(trained, causal_checkpoint, texts):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    exact = CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cuda", dtype="float32")
    np.testing.assert_allclose(exact.score(texts), trained.score(texts), atol=1e-4)
    half = CausalLLMRouter(checkpoint_path=causal_checkpoint, device="cuda", exact=False)
    np.testing.assert_allclose(half.score(texts), trained.score(texts), atol=0.05)
