from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from routellm_core.embeddings.base import Embeddings
from routellm_core.errors import CheckpointError, ConfigError, ScoringError
from routellm_core.routers.base import Router
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.testing.contract import RouterContract


class RowEmbedder:
    """Returns the row of a table whose number the text is."""

    name = "litellm/text-embedding-3-small"

    def __init__(self, table: Embeddings) -> None:
        self._table = table

    @property
    def dimension(self) -> int:
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return self._table[[int(text) for text in texts]] if texts else np.empty((0, self.dimension), np.float32)


class TestShippedDefault(RouterContract):
    tolerance = 1e-6  # float32 embeddings summed in another order

    def make_router(self) -> Router:
        return MatrixFactorizationRouter()


def test_equals_routellm_s_own_win_rates(shared: Path) -> None:
    golden = np.load(shared / "golden" / "mf_golden.npz", allow_pickle=False)
    embedder = RowEmbedder(golden["embeddings"])
    models = MfCheckpoint.load(shared / "golden" / "mf_ckpt").models
    for row, (strong, weak) in enumerate(golden["model_ids"]):
        router = MatrixFactorizationRouter(
            checkpoint_path=shared / "golden" / "mf_ckpt",
            strong_model=models[strong],
            weak_model=models[weak],
            embedder=embedder,
        )
        assert router.score([str(row)])[0] == pytest.approx(golden["win_rates"][row], abs=1e-6)


def test_the_pair_is_by_default_the_published_one(shared: Path) -> None:
    golden = np.load(shared / "golden" / "mf_golden.npz", allow_pickle=False)
    router = MatrixFactorizationRouter(
        checkpoint_path=str(shared / "golden" / "mf_ckpt"),
        embedder=RowEmbedder(golden["embeddings"]),
        hidden_size=128,
        num_models=64,
        text_dim=1536,
        num_classes=1,
        use_proj=True,
    )
    assert router.describe()["scored_pair"] == "gpt-4-1106-preview against mixtral-8x7b-instruct-v0.1"


def test_hand_computed(tmp_path: Path) -> None:
    # P̂ = (1,0), (0,1); T = I; c = (2, 1): the logit difference for e = (3, 4) is 2·3 − 1·4 = 2.
    weights = {
        "P.weight": np.array([[5.0, 0.0], [0.0, 0.1]], np.float32),
        "text_proj.0.weight": np.eye(2, dtype=np.float32),
        "classifier.0.weight": np.array([[2.0, 1.0]], np.float32),
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"dim": 2, "num_models": 2, "text_dim": 2, "use_proj": true}')
    router = MatrixFactorizationRouter(
        checkpoint_path=tmp_path, embedder=RowEmbedder(np.array([[3.0, 4.0], [0.0, 0.0], [300.0, -400.0]], np.float32))
    )
    np.testing.assert_allclose(router.score(["0", "1", "2"]), [1 / (1 + np.exp(-2)), 0.5, 1.0])


def test_the_scored_pair_is_a_parameter_and_unknown_models_are_named(shared: Path) -> None:
    checkpoint = MfCheckpoint.load(shared / "golden" / "mf_ckpt")
    np.testing.assert_allclose(checkpoint.fold("claude-1", "palm-2"), -checkpoint.fold("palm-2", "claude-1"))
    with pytest.raises(ConfigError, match="no vector for the model 'gpt-4-1106'.*Did you mean 'gpt-4-1106-preview'"):
        MatrixFactorizationRouter(strong_model="gpt-4-1106")


@pytest.fixture
def checkpoint(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "ckpt"
    shutil.copytree(shared / "golden" / "mf_ckpt", folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def damage_truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def damage_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def damage_missing_key(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in weights.items() if key != "P.weight"}, folder / "model.safetensors")


def damage_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "classifier.0.weight": np.ones((1, 7), np.float32)}, folder / "model.safetensors")


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def damage_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def damage_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["P.weight"][0, 0] = np.nan
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_truncate, "model.safetensors is not a readable safetensors file"),
        (damage_pickle, "model.safetensors is missing; pytorch_model.bin is a pickle"),
        (damage_missing_key, "model.safetensors has no array 'P.weight'"),
        (damage_shape, r"model.safetensors: classifier.0.weight has shape \(1, 7\), expected \(1, 128\)"),
        (damage_config, "config.json is not readable as JSON"),
        (damage_no_config, "config.json is missing"),
        (damage_nan, "finite values"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_its_file(checkpoint: Path, damage: Any, said: str) -> None:
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=said):
        MatrixFactorizationRouter(checkpoint_path=checkpoint)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedder": "static"}, "trained with the embedder 'litellm/text-embedding-3-small'.*'static"),
        ({"text_dim": 768, "embedder": "litellm/text-embedding-3-small"}, "text_dim=768.*1536"),
        ({"embedder": {"name": "litellm/text-embedding-3-small", "dimension": 256}}, "length 256.*expects 1536"),
    ],
)
def test_a_wrong_pairing_is_refused(shared: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MatrixFactorizationRouter(checkpoint_path=shared / "golden" / "mf_ckpt", **options)


def test_a_checkpoint_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="neither a folder here nor could it be fetched"):
        MatrixFactorizationRouter(checkpoint_path="nobody/nothing")
    with pytest.raises(CheckpointError, match="no checkpoint folder './nowhere'"):
        MatrixFactorizationRouter(checkpoint_path="./nowhere")


def test_a_wrong_vector_length_is_a_scoring_error(shared: Path) -> None:
    class Lying(RowEmbedder):
        dimension = None  # type: ignore[assignment]

    router = MatrixFactorizationRouter(
        checkpoint_path=shared / "golden" / "mf_ckpt", embedder=Lying(np.ones((1, 3), np.float32))
    )
    with pytest.raises(ScoringError, match=r"shape \(1, 3\)"):
        router.score(["0"])


def test_the_fingerprint_follows_the_weights_and_the_pair(checkpoint: Path) -> None:
    embedder = RowEmbedder(np.ones((1, 1536), np.float32))
    before = MatrixFactorizationRouter(checkpoint_path=checkpoint, embedder=embedder).fingerprint
    other_pair = MatrixFactorizationRouter(checkpoint_path=checkpoint, embedder=embedder, weak_model="palm-2")
    assert other_pair.fingerprint != before
    weights = load_file(checkpoint / "model.safetensors")
    weights["P.weight"] = weights["P.weight"] + np.float32(0.01)
    save_file(weights, checkpoint / "model.safetensors")
    assert MatrixFactorizationRouter(checkpoint_path=checkpoint, embedder=embedder).fingerprint != before


def test_the_default_sends_about_half_of_ordinary_traffic_strong() -> None:
    quantiles = MatrixFactorizationRouter().reference_quantiles
    assert quantiles is not None
    assert quantiles[500] == pytest.approx(0.116, abs=0.001)


def test_quantiles_hold_for_their_own_pair_only() -> None:
    swapped = MatrixFactorizationRouter(strong_model="mixtral-8x7b-instruct-v0.1", weak_model="gpt-4-1106-preview")
    assert swapped.reference_quantiles is None


def test_a_model_that_the_checkpoint_was_not_trained_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="not trained for the model 'palm-2'; it was for gpt-4-1106-preview"):
        MatrixFactorizationRouter(weak_model="palm-2")


def test_a_named_models_file_must_fit(checkpoint: Path) -> None:
    (checkpoint / "routing.json").write_text(json.dumps({"models": ["a", "b"]}))
    with pytest.raises(CheckpointError, match="names 2 models for 64 rows"):
        MatrixFactorizationRouter(checkpoint_path=checkpoint)
