"""Where a trained router is written: refused before the work where it cannot be, and whole or not at all."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.embeddings import load_embedder
from routellm_core.errors import ConfigError, OutputError
from routellm_core.rows.labelled import PairRows
from routellm_core.training.train_mf import train_matrix_factorization
from routellm_core.training.train_sw import train_similarity_index

Train = Callable[..., Any]
TRAININGS = [train_matrix_factorization, train_similarity_index]


def pair_rows(count: int = 120) -> PairRows:
    hard = np.arange(count) % 2 == 0
    prompts = [f"Compute {n} * {n + 7}." if hard[n] else f"Say hello to guest {n}." for n in range(count)]
    return PairRows(
        prompts=tuple(prompts),
        weights=np.ones(count),
        places=tuple(map(str, range(count))),
        licences=(),
        strong=np.ones(count),
        weak=(~hard).astype(float),
    )


class CountedEmbedder:
    """Counts what is embedded: the work that must not be done for nothing."""

    def __init__(self) -> None:
        self._static = load_embedder("static")
        self.name, self.dimension, self.embedded = self._static.name, self._static.dimension, 0

    def embed(self, texts: Any) -> Any:
        self.embedded += len(texts)
        return self._static.embed(texts)


@pytest.mark.parametrize("train", TRAININGS)
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere/router"])
def test_an_unusable_folder_is_refused_before_the_work(tmp_path: Path, train: Train, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    embedder = CountedEmbedder()
    start = {"start": None} if train is train_matrix_factorization else {}
    with pytest.raises(ConfigError, match="is a file|nothing can be written"):
        train(
            pair_rows(), output=tmp_path / place, strong_model="large", weak_model="small", embedder=embedder, **start
        )
    assert embedder.embedded == 0
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("train", TRAININGS)
def test_every_file_has_the_umasks_mode(tmp_path: Path, train: Train) -> None:
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    train(pair_rows(), output=tmp_path / "router", strong_model="large", weak_model="small")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "router").iterdir()}
    assert set(modes.values()) == {usual}, modes
    assert {"config.json", "README.md"} <= modes.keys()


class FillingEmbedder(CountedEmbedder):
    """Fills a disk while it embeds, as somebody else may."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self._disk = disk

    def embed(self, texts: Any) -> Any:
        with suppress(OSError), (self._disk / "filler").open("ab", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        return super().embed(texts)


@pytest.mark.parametrize("train", TRAININGS)
def test_a_disk_that_fills_meanwhile_leaves_the_live_router(small_disk: Path, train: Train) -> None:
    router = small_disk / "router"
    router.mkdir()
    for name in ("config.json", "model.safetensors"):
        (router / name).write_text("live")
    start = {"start": None} if train is train_matrix_factorization else {}
    with pytest.raises((OutputError, ConfigError), match="No space left"):
        train(
            pair_rows(),
            output=router,
            strong_model="large",
            weak_model="small",
            embedder=FillingEmbedder(small_disk),
            **start,
        )
    assert {path.name: path.read_text() for path in router.iterdir()} == {
        "config.json": "live",
        "model.safetensors": "live",
    }
    assert {path.name for path in small_disk.iterdir()} == {"router", "filler"}
