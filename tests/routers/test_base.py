"""Pickling and copying, for every kind of router."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core import Router, load_router
from routellm_core.embeddings import load_embedder
from routellm_core.routers.base import checked_scores
from routellm_core.routers.random import RandomRouter
from routellm_core.types import FloatArray

PROMPTS = ["hi", "Prove that there are infinitely many primes."]


class Smallest(Router):
    """A name and a score; no constructor."""

    name = "smallest"

    def score(self, prompts: Sequence[str]) -> FloatArray:
        return np.array([min(1.0, len(prompt) / 100) for prompt in prompts])


class Locked(Smallest):
    """Holds what cannot be pickled."""

    def __init__(self, *, steepness: float = 1.0) -> None:
        self.steepness, self.lock = steepness, threading.Lock()


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda router: pickle.loads(pickle.dumps(router))])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"embedder": load_embedder("static")},
        {"embedder": {"name": "static", "cache": True}},
    ],
)
@pytest.mark.parametrize("build", ["loaded", "built"])
def test_a_router_with_any_embedder_is_pickled_and_copied(
    twin_of: Any, options: dict[str, Any], build: str, tmp_path: Path
) -> None:
    if isinstance(options.get("embedder"), dict):
        options = {"embedder": load_embedder({"name": "static", "cache": tmp_path / "cache.sqlite"})}
    router = load_router("mf", options)
    if build == "built":
        router = type(router)(**options)
    scores = router.score(PROMPTS)
    twin = twin_of(router)
    np.testing.assert_array_equal(twin.score(PROMPTS), scores)
    assert twin.fingerprint == router.fingerprint


def test_a_loaded_router_pickles_as_name_and_options() -> None:
    router = load_router("mf")
    router.score(PROMPTS)
    assert len(pickle.dumps(router)) < 500


def test_a_router_that_holds_a_lock_is_pickled_by_its_options_and_copied_with_what_it_holds() -> None:
    from routellm_core.routers.registry import build_router

    router = build_router(Locked, "locked", {"steepness": 2.0})
    twin = pickle.loads(pickle.dumps(router))
    assert (twin.steepness, twin.name, twin.loaded_from) == (2.0, "locked", ("locked", {"steepness": 2.0}))
    assert copy.deepcopy(router).lock is router.lock


def test_copies_of_the_random_router_draw_from_the_start() -> None:
    router = RandomRouter(seed=3)
    first = router.score(PROMPTS)
    np.testing.assert_array_equal(copy.deepcopy(router).score(PROMPTS), first)


def test_a_registered_router_is_unpickled_where_nobody_registered_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from routellm_core import Router\nimport numpy as np\n"
        "class Mine(Router):\n    name = 'mine'\n"
        "    def score(self, prompts):\n        return np.full(len(prompts), 0.25)\n"
    )
    dump = (
        "import pickle, sys, mine; from routellm_core import load_router, register_router; "
        "register_router('other', mine.Mine); sys.stdout.buffer.write(pickle.dumps(load_router('other')))"
    )
    load = "import pickle, sys; router = pickle.load(sys.stdin.buffer); print(router.name, router.score(['a'])[0])"
    pickled = subprocess.run([sys.executable, "-c", dump], cwd=tmp_path, capture_output=True, check=True).stdout
    done = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, input=pickled, capture_output=True, check=True)
    assert done.stdout.split() == [b"other", b"0.25"]


def test_the_smallest_router_scores() -> None:
    np.testing.assert_array_equal(checked_scores(Smallest(), ["a" * 50]), [0.5])
