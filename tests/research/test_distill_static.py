import json

import numpy as np

from research.distill_static import principal_table, quantise, write_asset
from routellm_core.embeddings.static import StaticEmbedder


def test_the_first_component_carries_the_variance():
    vectors = np.zeros((4, 3), dtype=np.float32)
    vectors[:, 1] = [3.0, -3.0, 1.0, -1.0]
    table = principal_table(vectors, dimension=1)
    expected = np.array([3.0, -3.0, 1.0, -1.0]) * np.log([2, 3, 4, 5])  # log rank weight, sign fixed
    np.testing.assert_allclose(table[:, 0], expected, rtol=1e-6)


def test_quantisation_error_is_below_half_a_step():
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    stored = quantise(table)
    assert stored["table"].dtype == np.int8
    restored = stored["table"] * stored["scale"][:, None]
    assert (np.abs(restored - table) <= stored["scale"][:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero():
    stored = quantise(np.zeros((1, 4), dtype=np.float32))
    np.testing.assert_array_equal(stored["table"], 0)


def test_a_written_asset_loads(tmp_path):
    vocabulary = {"[UNK]": 0, "red": 1}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[UNK]",
        },
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_asset(np.eye(2, dtype=np.float32), model_folder=tmp_path, output=tmp_path / "asset", name="tiny-v1")
    embedder = StaticEmbedder(folder=tmp_path / "asset")
    assert embedder.name == "tiny-v1"
    np.testing.assert_allclose(embedder.embed(["red red"])[0, :2], [0.0, np.sqrt(2)], rtol=1e-6)
