"""The assets in the package, and training on a small part of the pool."""

import json

import numpy as np
import pytest

from research.pool import ALLOWED_LICENCES, Pool, load_pool
from research.report import apgr, apgr_interval
from research.shipped import train_shipped_mf
from research.shipped_direction import CORE_SURFACE, fit_difficulty, traffic_prompts
from research.shipped_sw import train_shipped_sw
from routellm_core._files import ASSETS
from routellm_core.embeddings.static import StaticEmbedder
from routellm_core.embeddings.surface import SURFACE_NAMES
from routellm_core.errors import ConfigError
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter

SHIPPED = ["mf_static", "mf_minilm"]


@pytest.fixture(scope="module")
def small_pool():
    pytest.importorskip("pandas", reason="needs the extra [train]")
    try:
        pool = load_pool()
    except ConfigError as error:
        pytest.skip(str(error))
    prompts = pool.prompts.groupby("source", group_keys=False).sample(150, random_state=0).reset_index(drop=True)
    kept = set(prompts["prompt_id"])
    parts = (frame[frame["prompt_id"].isin(kept)].reset_index(drop=True) for frame in (pool.scores, pool.pairs))
    return Pool(prompts, *parts)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_is_complete(name):
    checkpoint = MfCheckpoint.load(ASSETS / name)
    routing = json.loads((ASSETS / name / "routing.json").read_text())
    assert checkpoint.pair == ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert checkpoint.reference_quantiles[500] == pytest.approx(0.116, abs=1e-4)
    assert set(routing["training"]["licences"]) <= ALLOWED_LICENCES
    card = (ASSETS / name / "README.md").read_text()
    assert routing["training"]["command"] in card
    assert "MMLU" in card


def test_the_assets_are_small_and_safe():
    files = [file for file in ASSETS.rglob("*") if file.is_file()]
    mine = [file for file in files if file.relative_to(ASSETS).parts[0].startswith(("mf_", "static_", "surface_"))]
    assert sum(file.stat().st_size for file in mine) < 9_000_000
    assert {file.suffix for file in mine} <= {".json", ".safetensors", ".md"}


def test_the_core_features_exist():
    assert set(SURFACE_NAMES) >= CORE_SURFACE


THREE = [
    "hi",
    "What is the capital of France?",
    "Let $f$ be continuous on $[0,1]$ with $\\int_0^1 f(x) x^n dx = 0$ for all integers $n \\ge 0$. "
    "Prove that $f = 0$, and determine whether the theorem extends to $L^2$.",
]


def test_scores_spread_sensibly():
    greeting, question, proof = MatrixFactorizationRouter().score(THREE)
    assert greeting < 0.116
    assert question < 0.116
    assert proof > 0.116
    assert proof > 1.5 * greeting


def test_the_shipped_index_orders_prompts_sensibly():
    router = SimilarityWeightedRouter()
    greeting, question, proof = router.score(THREE)
    middle = router.reference_quantiles[500]
    assert max(greeting, question) < middle < proof


def test_a_source_that_is_left_out_has_no_influence(small_pool):
    shifted = small_pool.scores.copy()
    source = small_pool.prompts.set_index("prompt_id")["source"]
    inside = shifted["prompt_id"].map(source) == "mmlu_pro"
    shifted.loc[inside, "score"] = 1.0 - shifted.loc[inside, "score"]
    embedder = StaticEmbedder()
    before = fit_difficulty(small_pool, embedder)
    after = fit_difficulty(Pool(small_pool.prompts, shifted, small_pool.pairs), embedder)
    assert (before.direction(without="mmlu_pro") == after.direction(without="mmlu_pro")).all()
    assert not np.allclose(before.direction(), after.direction())


def test_the_index_follows_the_difficulty_direction_on_traffic_outside_it(small_pool, tmp_path):
    embedder = StaticEmbedder()
    facts = train_shipped_sw(small_pool, embedder, tmp_path / "sw")
    texts = list(dict.fromkeys(traffic_prompts(small_pool)))
    assert facts["battles"] == (len(texts) + 1) // 2 // 2 * 2
    router = SimilarityWeightedRouter(checkpoint_path=tmp_path / "sw", embedder=embedder)
    embeddings = embedder.embed(texts)
    difficulty = embeddings @ fit_difficulty(small_pool, embedder).direction()
    outside = np.argsort(-difficulty, kind="stable")[1::2]
    scores = router.score([texts[row] for row in outside])
    assert np.corrcoef(scores, difficulty[outside])[0, 1] > 0.7
    assert router.reference_quantiles[500] == pytest.approx(np.median(scores), abs=5e-3)  # int8 on disk
    repeated = train_shipped_sw(small_pool, embedder, tmp_path / "again")
    assert {**facts, "command": ""} == {**repeated, "command": ""}
    first, second = (tmp_path / name / "index.safetensors" for name in ("sw", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_training_repeats_exactly_and_writes_a_loadable_folder(small_pool, tmp_path):
    embedder = StaticEmbedder()
    first = train_shipped_mf(small_pool, embedder, tmp_path / "one")
    second = train_shipped_mf(small_pool, embedder, tmp_path / "two")
    assert {**first, "command": ""} == {**second, "command": ""}
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    router = MatrixFactorizationRouter(checkpoint_path=tmp_path / "one")
    traffic = small_pool.prompts.loc[small_pool.prompts["source"] == "arena55k", "prompt"].tolist()
    assert np.median(router.score(traffic)) == pytest.approx(0.116, abs=1e-3)


def test_apgr_by_hand():
    gain = np.array([1.0] * 5 + [0.0] * 5)
    assert apgr(np.arange(10.0, 0, -1), gain) == pytest.approx(0.75)  # rises to 1 at half the calls
    assert apgr(np.arange(10.0), gain) == pytest.approx(0.25)
    low, high = apgr_interval(np.arange(100.0, 0, -1), np.repeat(gain, 10))
    assert low < 0.75 < high
