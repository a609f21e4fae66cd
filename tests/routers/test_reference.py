import json

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra [torch]")

from routellm_core.calibration import resolve_threshold
from routellm_core.errors import CheckpointError, InvalidThresholdError
from routellm_core.routers.reference import ScoreReference
from routellm_core.routers.transformer.bert import BERTRouter
from routellm_core.routers.transformer.causal_llm import CausalLLMRouter

QUANTILES = np.linspace(0.2, 0.6, 1001).tolist()


def write(folder, **content):
    (folder / "routing.json").write_text(json.dumps(content))


def test_nothing_there_says_nothing(tmp_path):
    for _ in range(2):
        found = ScoreReference.load(tmp_path)
        assert (found.quantiles, found.max_tokens, found.exact) == (None, None, None)
        write(tmp_path, strong_model="l")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"reference_quantiles": QUANTILES[::-1]}, "1001 ascending numbers"),
        ({"reference_quantiles": QUANTILES[:-1]}, "1001 ascending numbers"),
        ({"reference_quantiles": "many"}, "1001 ascending numbers"),
        ({"max_tokens": 0}, "max_tokens must be a positive number, got 0"),
        ({"max_tokens": "all"}, "max_tokens must be a positive number, got 'all'"),
    ],
)
def test_nonsense_is_refused_with_its_file(tmp_path, content, message):
    write(tmp_path, **content)
    with pytest.raises(CheckpointError, match=rf"routing\.json: .*{message}"):
        ScoreReference.load(tmp_path)


@pytest.mark.parametrize("router", [BERTRouter, CausalLLMRouter])
def test_a_share_is_resolved_by_the_checkpoint(router, request, copy_checkpoint):
    name = "bert_checkpoint" if router is BERTRouter else "untrained_causal_checkpoint"
    folder = copy_checkpoint(request.getfixturevalue(name))
    with pytest.raises(InvalidThresholdError, match="has no reference quantiles"):
        resolve_threshold("50%", router(checkpoint_path=folder, device="cpu"))
    write(folder, reference_quantiles=QUANTILES, max_tokens=50)
    assert resolve_threshold("50%", router(checkpoint_path=folder, device="cpu")) == pytest.approx(0.4)
    assert resolve_threshold("25%", router(checkpoint_path=folder, device="cpu", max_tokens=50)) == pytest.approx(0.5)
    assert router(checkpoint_path=folder, device="cpu", max_tokens=40).reference_quantiles is None


def test_a_causal_checkpoint_says_how_it_is_read(copy_checkpoint, untrained_causal_checkpoint, caplog):
    folder = copy_checkpoint(untrained_causal_checkpoint)
    write(folder, exact=False)
    scores = CausalLLMRouter(checkpoint_path=folder, device="cpu").score(["a", "b"])
    assert "decoded" not in caplog.text
    inexact = CausalLLMRouter(checkpoint_path=folder, device="cpu", exact=False)
    np.testing.assert_array_equal(scores, inexact.score(["a", "b"]))
    CausalLLMRouter(checkpoint_path=folder, device="cpu", exact=True).score(["a"])
    assert "decoded" in caplog.text


def test_quantiles_hold_for_the_chat_format_and_threshold_of_training(copy_checkpoint, untrained_causal_checkpoint):
    folder = copy_checkpoint(untrained_causal_checkpoint)
    write(folder, reference_quantiles=QUANTILES)
    assert CausalLLMRouter(checkpoint_path=folder, device="cpu").reference_quantiles is not None
    chat = {"system": "{instruction}", "user": "{instruction}", "assistant_header": "A:"}
    for other in ({"prompt_format": chat}, {"score_threshold": 3}):
        assert CausalLLMRouter(checkpoint_path=folder, device="cpu", **other).reference_quantiles is None
