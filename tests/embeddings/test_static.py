import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from research.static_asset import write_static
from routellm_core.embeddings.base import Embedder
from routellm_core.embeddings.content import CONTENT_NAMES, ContentReader
from routellm_core.embeddings.opinions import OPINION_NAMES, zero_heads
from routellm_core.embeddings.static import StaticEmbedder
from routellm_core.errors import CheckpointError

AWKWARD = ["", "hi", "\ud800", "中文", "🙂", "\x00", "a" * 100_000, "What is 2 + 2?", "word " * 3000]


@pytest.fixture(scope="module")
def embedder():
    return StaticEmbedder()


@pytest.fixture
def tiny_folder(tmp_path):
    """Three tokens in two dimensions: [UNK], red, blue."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "blue": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    content = len(CONTENT_NAMES)
    fitted = {
        "word_weights": np.array([0.0, 1.0, 3.0]),
        "means": np.zeros(content),
        "scales": np.ones(content),
        **{f"heads.{name}": array for name, array in zero_heads(2 + content).items()},
    }
    write_static(
        tmp_path,
        table=np.array([[1, 1], [2, 0], [0, 1]], dtype=np.float32),
        tokenizer_json=tokenizer.to_str(),
        fitted=fitted,
        config={"name": "tiny-v1"},
    )
    yield tmp_path
    ContentReader.forget()


def test_it_is_an_embedder_with_a_versioned_name(embedder):
    assert isinstance(embedder, Embedder)
    assert embedder.name == "static-v2"
    assert embedder.dimension == 256 + len(CONTENT_NAMES) + len(OPINION_NAMES) + 1
    assert embedder.semantic_dimension == 256


def test_layout_semantic_content_opinions_constant(embedder):
    vectors = embedder.embed(["What is the capital of France?"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :256], axis=1), 16.0, rtol=1e-5)
    content = ContentReader().read(["What is the capital of France?"])
    np.testing.assert_array_equal(vectors[:, 256:-4], content.features)
    assert np.abs(vectors[:, -4:-1]).max() < 6.0
    np.testing.assert_array_equal(vectors[:, -1], 1.0)


def test_vectors_by_hand(tiny_folder):
    embedder = StaticEmbedder(folder=tiny_folder)
    vectors = embedder.embed(["red", "red blue blue", "unknown", ""])[:, :2]
    expected = [[np.sqrt(2), 0], [1, 1], [1, 1], [1, 1]]  # length √2, direction of sums
    np.testing.assert_allclose(vectors, expected, rtol=1e-2)  # int8
    words = ContentReader(tiny_folder).read(["red", "blue blue red"]).word_score
    np.testing.assert_allclose(words, [1.0, 4.0 / np.sqrt(2)], rtol=1e-3)  # distinct tokens over their root
    assert embedder.name == "tiny-v1"


def test_a_batch_equals_single_texts_and_keeps_the_order(embedder):
    batch = embedder.embed(AWKWARD)
    assert np.isfinite(batch).all()
    np.testing.assert_array_equal(batch, np.concatenate([embedder.embed([text]) for text in AWKWARD]))


def test_an_empty_batch_has_no_rows(embedder):
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_related_texts_are_nearer_than_unrelated_ones(embedder):
    vectors = embedder.embed(
        ["Solve the quadratic equation", "Find the roots of the polynomial", "Recipe for pancakes"]
    )
    semantic = vectors[:, :256] / 16.0
    assert semantic[0] @ semantic[1] > semantic[0] @ semantic[2]


def test_only_the_start_and_the_end_of_a_long_text_are_read(embedder):
    middle_a, middle_b = ("x " * 50_000, "y " * 50_000)
    head, tail = "start " * 500, " end" * 250
    first, second = embedder.embed([head + middle_a + tail, head + middle_b + tail])
    np.testing.assert_array_equal(first, second)
    assert "4,000" in embedder.prompt_limit


def test_threads_get_the_same_vectors():
    embedder = StaticEmbedder()
    texts = [f"question number {index}" for index in range(40)]
    expected = embedder.embed(texts)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda text: embedder.embed([text]), texts))
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_missing_asset_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        StaticEmbedder(folder=tmp_path).embed(["x"])


def test_a_truncated_table_is_refused(tiny_folder):
    weights = tiny_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="cannot be read"):
        StaticEmbedder(folder=tiny_folder).embed(["x"])


def test_a_broken_tokenizer_is_refused(tiny_folder):
    (tiny_folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="static embedding"):
        StaticEmbedder(folder=tiny_folder).embed(["x"])


def test_it_needs_neither_torch_nor_onnx():
    code = (
        "import sys; from routellm_core.embeddings.static import StaticEmbedder; StaticEmbedder().embed(['x']); "
        "print(*sorted({'torch', 'onnxruntime', 'onnx', 'transformers', 'pandas', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
