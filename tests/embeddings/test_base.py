from __future__ import annotations

import numpy as np

from routellm_core.embeddings.base import encodable
from routellm_core.metrics.scores import sigmoid, softmax


def test_texts_become_encodable() -> None:
    assert encodable("plain 日本 🎉") == "plain 日本 🎉"
    assert encodable("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert encodable("x\ud83d\ude00") == "x😀"  # two halves of one character join


def test_sigmoid_and_softmax_take_logits_of_any_size() -> None:
    np.testing.assert_allclose(sigmoid([0.0, 1.0, -1.0]), [0.5, 0.731058578630005, 0.268941421369995])
    np.testing.assert_array_equal(sigmoid([1e6, -1e6]), [1.0, 0.0])
    np.testing.assert_allclose(sigmoid(-40.0), np.exp(-40.0))
    np.testing.assert_allclose(softmax([[0.0, np.log(3.0)], [1e6, 1e6]]), [[0.25, 0.75], [0.5, 0.5]])
