"""The assets in the package, and training on a small part of the pool."""

import json
import shutil

import numpy as np
import pytest

from research.evidence import word_weights
from research.judged import JUDGED_LICENCES, JudgedRows, judged_frame, judged_rows
from research.pool import ALLOWED_LICENCES, Pool, load_pool
from research.report import apgr, apgr_interval
from research.shipped import Sources, build_static, traffic_prompts, train_shipped_mf
from research.shipped_sw import train_shipped_sw
from research.targets import difficulty_rows
from routellm_core._files import ASSETS
from routellm_core.embeddings.static import STATIC_FOLDER, StaticEmbedder
from routellm_core.errors import ConfigError
from routellm_core.routers.mf.router import MatrixFactorizationRouter, MfCheckpoint
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter

SHIPPED = ["mf_static", "mf_minilm"]


@pytest.fixture(scope="module")
def small_sources():
    """A small part of the training data, so that training takes seconds."""
    pytest.importorskip("pandas", reason="needs the extra [train]")
    try:
        pool, frame = load_pool(), judged_frame()
    except (ConfigError, FileNotFoundError) as error:
        pytest.skip(str(error))
    prompts = pool.prompts.groupby("source", group_keys=False).sample(150, random_state=0).reset_index(drop=True)
    kept = set(prompts["prompt_id"])
    parts = (part[part["prompt_id"].isin(kept)].reset_index(drop=True) for part in (pool.scores, pool.pairs))
    pool = Pool(prompts, *parts)
    ids = sorted(set(frame.loc[frame["translated"], "prompt_id"]))[:40] + frame["prompt_id"].tolist()[::12]
    frame = frame[frame["prompt_id"].isin(set(ids))]
    judged = judged_rows(frame)
    difficulty, traffic = difficulty_rows(pool, by_category=False), traffic_prompts(pool, frame)
    return Sources(pool, judged, ["small"] * len(judged.prompts), difficulty, traffic)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_is_complete(name):
    checkpoint = MfCheckpoint.load(ASSETS / name)
    routing = json.loads((ASSETS / name / "routing.json").read_text())
    assert checkpoint.pair == ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert checkpoint.reference_quantiles[500] == pytest.approx(0.116, abs=1e-4)
    added = {"CC-BY-4.0 (prompts of cje_arena)", "this project's own"}
    assert set(routing["training"]["licences"]) <= ALLOWED_LICENCES | added
    card = (ASSETS / name / "README.md").read_text()
    assert routing["training"]["command"] in card
    assert "MMLU" in card


def test_the_assets_are_small_and_safe():
    files = [file for file in ASSETS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 12_000_000
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}


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


def test_the_index_is_made_of_judged_leads_and_repeats_exactly(small_sources, tmp_path):
    embedder, judged = StaticEmbedder(), small_sources.judged
    facts = train_shipped_sw(judged, embedder, tmp_path / "sw")
    chat = np.flatnonzero(~np.isnan(judged.lead) & ~judged.translated)
    assert facts["battles"] == (len(chat) + 1) // 2 // 2 * 2
    router = SimilarityWeightedRouter(checkpoint_path=tmp_path / "sw", embedder=embedder)
    outside = chat[np.argsort(-judged.lead[chat], kind="stable")[1::2]]
    scores = router.score([judged.prompts[row] for row in outside])
    assert np.corrcoef(scores, judged.lead[outside])[0, 1] > 0.15
    repeated = train_shipped_sw(judged, embedder, tmp_path / "again")
    assert {**facts, "command": ""} == {**repeated, "command": ""}
    first, second = (tmp_path / name / "index.safetensors" for name in ("sw", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_static_asset_and_its_router_repeat_exactly(small_sources, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        shutil.copy(STATIC_FOLDER / "model.safetensors", folder)  # the table, which takes minutes to distil
        build_static(small_sources, folder)
        train_shipped_mf(small_sources, StaticEmbedder(folder=folder), folder / "mf", static=folder)
    for file in ("model.safetensors", "tokenizer.json", "mf/model.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    router = MatrixFactorizationRouter(checkpoint_path=folders[0] / "mf", embedder=StaticEmbedder(folder=folders[0]))
    assert np.median(router.score(small_sources.traffic)) == pytest.approx(0.116, abs=1e-3)
    assert router.score(["hi"])[0] < router.score([THREE[-1]])[0]


def test_what_a_word_weighs_follows_from_the_labels():
    lead = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    judged = JudgedRows(
        ["x"] * 6, list("abcdef"), lead, np.full(6, np.nan), np.zeros(6, bool), np.array(["en"] * 6), ["MIT"] * 6
    )
    weights = word_weights(judged, [[1, 3], [1], [1, 3], [2], [2, 3], [2]], 5)
    assert weights[1] > 0 > weights[2]
    assert weights[0] == weights[4] == 0.0  # never seen
    assert abs(weights[3]) < weights[1]


def test_only_licensed_rows_are_trained_on(small_sources):
    frame = judged_frame()
    rows = judged_rows(frame)
    licensed = frame[frame["data_licence"].isin(JUDGED_LICENCES)]
    assert set(rows.prompts) <= set(licensed["prompt"])
    assert not {"vibecheck_arena", "fb_bench"} & set(licensed["source"])


def test_apgr_by_hand():
    gain = np.array([1.0] * 5 + [0.0] * 5)
    assert apgr(np.arange(10.0, 0, -1), gain) == pytest.approx(0.75)  # rises to 1 at half the calls
    assert apgr(np.arange(10.0), gain) == pytest.approx(0.25)
    low, high = apgr_interval(np.arange(100.0, 0, -1), np.repeat(gain, 10))
    assert low < 0.75 < high
