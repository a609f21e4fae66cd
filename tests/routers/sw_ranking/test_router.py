from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from routellm_core.errors import CheckpointError, ConfigError, MissingExtraError, ScoringError
from routellm_core.routers import load_router
from routellm_core.routers.base import checked_scores
from routellm_core.routers.sw_ranking import router as router_module
from routellm_core.routers.sw_ranking import similarity, storage
from routellm_core.routers.sw_ranking.battles import BattleTable
from routellm_core.routers.sw_ranking.bradley_terry import elo_from_strengths, fit_strengths, win_table
from routellm_core.routers.sw_ranking.router import SimilarityWeightedRouter
from routellm_core.routers.sw_ranking.similarity import NumpyGroupSums, make_group_sums, weight_exponents
from routellm_core.routers.sw_ranking.storage import StoredEmbeddings, quantise_rows, storage_type_for, unit_rows
from routellm_core.testing.contract import RouterContract

PAIR = {"strong_model": "m1", "weak_model": "m9"}


class TestContract(RouterContract):
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _index(self, make_battles, embedder, tmp_path):
        SimilarityWeightedRouter.from_arrays(*make_battles(), embedder=embedder, **PAIR).save(tmp_path)
        self.embedder, self.folder = embedder, tmp_path

    def make_router(self):
        return SimilarityWeightedRouter(checkpoint_path=self.folder, embedder=self.embedder)


@pytest.fixture
def router(make_battles, embedder):
    table, embeddings = make_battles()
    return SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **PAIR)


@pytest.fixture
def queries():
    return np.random.default_rng(5).standard_normal((9, 16)).astype(np.float32)


def exact_strengths(table, embeddings, queries, tiers, num_tiers=10):
    """The published formula in float64, battle by battle; only the fit is the library's."""
    units = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    strengths = []
    for query in queries.astype(np.float64):
        cosines = units @ (query / np.linalg.norm(query))
        sums = np.zeros((3, num_tiers, num_tiers))
        np.add.at(
            sums, (table.outcome, tiers[table.model_a], tiers[table.model_b]), 10 * 10 ** (cosines / cosines.max())
        )
        strengths.append(fit_strengths(win_table(sums)[None])[0])
    return np.array(strengths)


def golden_table(facts, arrays):
    kept = arrays["kept_rows"]
    return BattleTable(
        tuple(facts["names"]),
        arrays["model_a"][kept].astype(np.int32),
        arrays["model_b"][kept].astype(np.int32),
        arrays["winner"][kept],
    )


def golden_router(golden, read_json, name, embedder, **options):
    facts, arrays = read_json(golden / f"{name}.json"), np.load(golden / f"{name}.npz")
    table = golden_table(facts, arrays)
    embedder = replace(embedder, dimension=None)
    return (
        SimilarityWeightedRouter.from_arrays(table, arrays["embeddings"], embedder=embedder, **options),
        facts,
        arrays,
    )


@pytest.mark.parametrize("name", ["sw_600_20m_64d", "sw_800_64m_32d"])
class TestGolden:
    def test_tiers_and_ratings(self, golden, read_json, embedder, name):
        router, facts, _ = golden_router(golden, read_json, name, embedder)
        assert router.model2tier == facts["model2tier"]

    def test_exact_in_float64(self, golden, read_json, embedder, name):
        router, facts, arrays = golden_router(golden, read_json, name, embedder)
        table, tiers = golden_table(facts, arrays), np.array([router.model2tier[model] for model in facts["names"]])
        strengths = exact_strengths(table, arrays["embeddings"], arrays["queries"], tiers)
        np.testing.assert_allclose(elo_from_strengths(strengths), arrays["exact_tier_elos"], atol=1e-6)
        strong, weak = (router.model2tier[model] for model in router._pair)
        win_rates = 1 / (1 + np.exp(strengths[:, weak] - strengths[:, strong]))
        np.testing.assert_allclose(win_rates, arrays["exact_win_rates"], atol=1e-12)

    def test_float32(self, golden, read_json, embedder, name):
        router, _, arrays = golden_router(golden, read_json, name, embedder)
        scores = router.score_embeddings(arrays["queries"])
        np.testing.assert_allclose(scores, arrays["exact_win_rates"], atol=1e-6)
        np.testing.assert_allclose(scores, arrays["win_rates"], atol=1e-3)
        np.testing.assert_allclose(router.tier_ratings(arrays["queries"]), arrays["exact_tier_elos"], atol=2e-3)

    def test_without_self_battles(self, golden, read_json, embedder, name):
        router, _, arrays = golden_router(golden, read_json, name, embedder, count_self_battles=False)
        expected = arrays["exact_win_rates_no_selfbattle_quirk"]
        np.testing.assert_allclose(router.score_embeddings(arrays["queries"]), expected, atol=1e-6)

    def test_int8_is_near(self, golden, read_json, embedder, name):
        router, _, arrays = golden_router(golden, read_json, name, embedder, dtype="int8")
        np.testing.assert_allclose(router.score_embeddings(arrays["queries"]), arrays["exact_win_rates"], atol=1e-3)


def test_a_prompt_without_any_similarity_weighs_all_battles_alike(router, make_battles):

    table, _ = make_battles()
    tiers = np.array([router.model2tier[name] for name in table.models])
    sums = np.zeros((3, 10, 10))
    np.add.at(sums, (table.outcome, tiers[table.model_a], tiers[table.model_b]), 1.0)
    strengths = fit_strengths(win_table(sums)[None])[0]
    expected = 1 / (1 + np.exp(strengths[tiers[9]] - strengths[tiers[1]]))
    assert router.score_embeddings(np.zeros((1, 16)))[0] == pytest.approx(expected, abs=1e-6)


def test_largest_similarity_negative_or_tiny(make_battles, embedder):
    table, embeddings = make_battles()
    embeddings = np.abs(embeddings)
    router = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **PAIR)
    query = -np.ones((1, 16), dtype=np.float32)
    assert (unit_rows(embeddings) @ query[0]).max() < 0
    tiers = np.array([router.model2tier[model] for model in table.models])
    exact = exact_strengths(table, embeddings, query, tiers)[0]
    assert router.score_embeddings(query)[0] == pytest.approx(
        1 / (1 + np.exp(exact[tiers[9]] - exact[tiers[1]])), abs=1e-5
    )
    orthogonal = np.zeros((len(table), 16), dtype=np.float32)
    orthogonal[:, 0], orthogonal[:, 1] = 1.0, -1e-30
    tiny = SimilarityWeightedRouter.from_arrays(table, orthogonal, embedder=embedder, **PAIR)
    for sign in (1.0, -1.0):
        assert 0 <= tiny.score_embeddings(np.eye(16)[1:2] * sign)[0] <= 1


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_order_of_battles_and_length_of_embeddings_do_not_matter(make_battles, seed, scale):
    table, embeddings = make_battles(seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(table))
    shuffled = BattleTable(table.models, table.model_a[order], table.model_b[order], table.outcome[order])
    queries = rng.standard_normal((4, 16))
    stub = Stub()
    one = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=stub, **PAIR)
    two = SimilarityWeightedRouter.from_arrays(shuffled, embeddings[order] * scale, embedder=stub, **PAIR)
    np.testing.assert_allclose(one.score_embeddings(queries), two.score_embeddings(queries * scale), atol=1e-5)
    assert one.model2tier == two.model2tier


class Stub:
    name = "stub"
    dimension = 16

    def embed(self, texts):
        return np.ones((len(texts), 16), dtype=np.float32)


def test_batch_equals_single_in_any_order(router, texts):
    together = checked_scores(router, texts * 3)
    alone = [router.calculate_strong_win_rate(text) for text in texts]
    np.testing.assert_allclose(together, alone * 3, atol=1e-6)
    np.testing.assert_allclose(router.score(texts[::-1]), together[: len(texts)][::-1], atol=1e-6)
    assert router.score([]).shape == (0,)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("tile_bytes", [1, 4000, 1 << 30])
def test_tiling_changes_nothing(make_battles, embedder, queries, dtype, tile_bytes, monkeypatch):
    monkeypatch.setattr(similarity, "find_spec", lambda _name: None)
    monkeypatch.setattr(similarity, "SMALL_INDEX_BYTES", 0)
    monkeypatch.setattr(storage, "_TILE_BYTES", 37 * 4 * 16)
    monkeypatch.setattr(storage, "_WRITE_ROWS", 11)
    table, embeddings = make_battles()
    options = {"embedder": embedder, "dtype": dtype, **PAIR}
    tiled = SimilarityWeightedRouter.from_arrays(table, embeddings, tile_bytes=tile_bytes, **options)
    monkeypatch.undo()
    whole = SimilarityWeightedRouter.from_arrays(table, embeddings, **options)
    np.testing.assert_allclose(tiled.score_embeddings(queries), whole.score_embeddings(queries), atol=1e-6)


def test_the_integer_product_equals_numpy(make_battles, embedder, monkeypatch, torch):
    table, embeddings = make_battles(dimension=64)
    options = {"embedder": replace(embedder, dimension=64), "dtype": "int8", **PAIR}
    plain = SimilarityWeightedRouter.from_arrays(table, embeddings, **options)
    monkeypatch.setattr(similarity, "SMALL_INDEX_BYTES", 0)
    fast = SimilarityWeightedRouter.from_arrays(table, embeddings, **options)
    assert (plain.describe()["device"], fast.describe()["device"]) == ("numpy on cpu", "torch on cpu")
    queries = np.random.default_rng(5).standard_normal((70, 64))
    for count in (1, 70):  # the prompts are rounded too
        np.testing.assert_allclose(
            fast.score_embeddings(queries[:count]), plain.score_embeddings(queries[:count]), atol=5e-3
        )


def arguments_of(router):
    blocks = router._state.index.blocks
    return [block.embeddings for block in blocks], router._state.index.starts, [block.weights for block in blocks]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_device_path_equals_numpy(make_battles, embedder, queries, dtype, torch):
    from routellm_core.routers.sw_ranking.similarity_torch import TorchGroupSums

    table, embeddings = make_battles()
    router = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, dtype=dtype, **PAIR)
    router.extend(*make_battles(count=50, seed=3))
    expected, runs_on = make_group_sums(*arguments_of(router), device="cpu")
    assert runs_on == "numpy on cpu"
    units = unit_rows(np.concatenate([queries, np.zeros((1, 16), np.float32)]))
    got = TorchGroupSums(*arguments_of(router), device=torch.device("cpu"))(units)
    np.testing.assert_allclose(got, expected(units), rtol=2e-2 if dtype == "int8" else 1e-4)


def repeated(table, embeddings, times):
    """The same battles, each as often as ``times`` says."""
    rows = np.repeat(np.arange(len(table)), times)
    return BattleTable(table.models, table.model_a[rows], table.model_b[rows], table.outcome[rows]), embeddings[rows]


@pytest.fixture
def weighted(make_battles):
    table, embeddings = make_battles()
    times = np.random.default_rng(1).integers(1, 4, len(table))
    return replace(table, prompts=None, weights=times.astype(np.float32)), embeddings, times


def test_a_weight_counts_as_so_many_copies(weighted, embedder, queries):
    table, embeddings, times = weighted
    by_weight = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **PAIR)
    by_copies = SimilarityWeightedRouter.from_arrays(*repeated(table, embeddings, times), embedder=embedder, **PAIR)
    unweighted = SimilarityWeightedRouter.from_arrays(
        replace(table, weights=None), embeddings, embedder=embedder, **PAIR
    )
    assert by_weight.model2tier == by_copies.model2tier
    scores = by_weight.score_embeddings(queries)
    np.testing.assert_allclose(scores, by_copies.score_embeddings(queries), rtol=1e-5)
    assert np.abs(scores - unweighted.score_embeddings(queries)).max() > 1e-3
    assert by_weight.fingerprint != unweighted.fingerprint


def test_weights_are_saved_and_join_battles_without_any(weighted, make_battles, embedder, queries, tmp_path):
    table, embeddings, times = weighted
    router = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **PAIR)
    more, vectors = make_battles(count=50, seed=3)
    router.extend(more, vectors)
    router.save(tmp_path / "index")
    loaded = SimilarityWeightedRouter(checkpoint_path=tmp_path / "index", embedder=embedder)
    np.testing.assert_array_equal(loaded.score_embeddings(queries), router.score_embeddings(queries))
    assert loaded.fingerprint == router.fingerprint
    copies = SimilarityWeightedRouter.from_arrays(*repeated(table, embeddings, times), embedder=embedder, **PAIR)
    copies.extend(more, vectors)
    np.testing.assert_allclose(router.score_embeddings(queries), copies.score_embeddings(queries), rtol=1e-5)


def test_weights_on_a_device(weighted, embedder, queries, torch):
    from routellm_core.routers.sw_ranking.similarity_torch import TorchGroupSums

    table, embeddings, _ = weighted
    router = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **PAIR)
    expected, _ = make_group_sums(*arguments_of(router), device="cpu")
    got = TorchGroupSums(*arguments_of(router), device=torch.device("cpu"))(unit_rows(queries))
    np.testing.assert_allclose(got, expected(unit_rows(queries)), rtol=1e-4)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, np.nan], [1.0]])
def test_weights_must_be_positive(weights):
    with pytest.raises(ConfigError, match="2 positive, finite numbers"):
        BattleTable.from_columns(["a", "a"], ["b", "b"], ["tie", "tie"], weights=weights)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_gpu_equals_cpu(make_battles, embedder, queries, dtype, torch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    table, embeddings = make_battles(count=5000)
    options = {"embedder": embedder, "dtype": dtype, **PAIR}
    cpu = SimilarityWeightedRouter.from_arrays(table, embeddings, device="cpu", **options)
    gpu = SimilarityWeightedRouter.from_arrays(table, embeddings, device="cuda", **options)
    np.testing.assert_allclose(gpu.score_embeddings(queries), cpu.score_embeddings(queries), atol=1e-3)


def test_automatic_storage(make_battles, embedder, monkeypatch):
    def stored(**options):
        router = SimilarityWeightedRouter.from_arrays(*make_battles(), embedder=embedder, **PAIR, **options)
        return router.describe()["dtype"]

    assert stored() == "float32"
    assert (storage_type_for("auto", 100 << 20), storage_type_for("auto", 1 << 30)) == ("float32", "int8")
    monkeypatch.setattr(storage, "SMALL_INDEX_BYTES", 100)
    assert stored() == "int8"
    assert stored(dtype="float32") == "float32"
    assert (storage_type_for("auto", 100 << 20), storage_type_for("auto", 1 << 30)) == ("int8", "int8")


def test_without_torch(make_battles, embedder, monkeypatch):
    table, embeddings = make_battles()
    monkeypatch.setattr(similarity, "find_spec", lambda _name: None)
    monkeypatch.setattr(similarity, "SMALL_INDEX_BYTES", 0)
    router = SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, dtype="int8", **PAIR)
    assert router.describe()["device"] == "numpy on cpu"
    with pytest.raises(MissingExtraError, match="torch"):
        SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, device="cuda", **PAIR)


def test_numpy_alone_imports_no_torch(tmp_path, router):
    router.save(tmp_path / "index")
    code = (
        "import sys; from routellm_core.routers.sw_ranking.files import read_index; from pathlib import Path;"
        "from routellm_core.routers.sw_ranking.router import ScoringState; import numpy as np;"
        f"saved = read_index(Path({str(tmp_path / 'index')!r}));"
        "ScoringState(saved.index, saved.pair, 'auto', 1 << 20).win_rates(np.ones((2, 16)));"
        "heavy = ('torch', 'transformers', 'sklearn', 'pandas', 'pyarrow', 'litellm');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_extending_equals_building_at_once(make_battles, embedder, queries, dtype):
    first, first_vectors = make_battles(seed=1)
    second, second_vectors = make_battles(count=80, seed=2)
    third, third_vectors = make_battles(count=30, seed=3, names="new")
    models = tuple(dict.fromkeys([*first.models, *third.models]))
    parts = [table.renumbered(models) for table in (first, second, third)]
    everything = BattleTable(
        models, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("model_a", "model_b", "outcome"))
    )
    options = {"embedder": embedder, "dtype": dtype, **PAIR}
    once = SimilarityWeightedRouter.from_arrays(
        everything, np.concatenate([first_vectors, second_vectors, third_vectors]), **options
    )
    grown = SimilarityWeightedRouter.from_arrays(first, first_vectors, **options)
    before = grown.fingerprint
    kept = grown._state.index.blocks[0].embeddings.values
    grown.extend(second, second_vectors)
    grown.extend(third, third_vectors)
    assert grown._state.index.blocks[0].embeddings.values is kept  # shared, not copied
    assert grown.model2tier == once.model2tier
    np.testing.assert_allclose(grown.score_embeddings(queries), once.score_embeddings(queries), atol=2e-6)
    assert grown.fingerprint != before


def test_extending_with_prompts_to_embed(router, make_battles):
    table, _ = make_battles(count=20, seed=4)
    router.extend(table)
    assert router.describe()["battles"] == 420
    with pytest.raises(ConfigError, match="must keep its prompts"):
        router.extend(BattleTable(table.models, table.model_a, table.model_b, table.outcome))
    with pytest.raises(ConfigError, match="20 battles but 3 embeddings"):
        router.extend(table, np.ones((3, 16)))
    with pytest.raises(ConfigError, match="differ in length"):
        router.extend(table, np.ones((20, 8)))
    assert router.describe()["battles"] == 420


@pytest.mark.parametrize("dtype", [None, "float32", "int8"])
def test_saving_and_loading(router, make_battles, tmp_path, queries, embedder, dtype):
    router.extend(*make_battles(count=50, seed=3))
    quantiles = np.linspace(0.1, 0.9, 1001)
    router.save(tmp_path / "index", dtype=dtype, reference_quantiles=quantiles)
    loaded = SimilarityWeightedRouter(checkpoint_path=tmp_path / "index", embedder=embedder)
    bound = {"int8": 5e-3}.get(str(dtype), 1e-12)
    np.testing.assert_allclose(loaded.score_embeddings(queries), router.score_embeddings(queries), atol=bound)
    assert loaded.model2tier == router.model2tier
    assert loaded.describe()["dtype"] == dtype or "float32"
    assert loaded.describe()["scored_pair"] == "m1 against m9"
    np.testing.assert_array_equal(loaded.reference_quantiles, quantiles)
    if dtype in (None, "float32"):
        assert loaded.fingerprint == router.fingerprint
    other_pair = SimilarityWeightedRouter(checkpoint_path=tmp_path / "index", embedder=embedder, strong_model="m2")
    assert other_pair.reference_quantiles is None
    assert other_pair.fingerprint != loaded.fingerprint


def test_options_override_a_saved_index(router, tmp_path, queries, embedder, make_battles):
    router.save(tmp_path / "index")
    options = {"embedder": embedder, "num_tiers": 4, "count_self_battles": False, "dtype": "int8"}
    loaded = SimilarityWeightedRouter(checkpoint_path=tmp_path / "index", **options)
    built = SimilarityWeightedRouter.from_arrays(*make_battles(), **options, **PAIR)
    assert max(loaded.model2tier.values()) == 3
    assert loaded.model2tier == built.model2tier
    np.testing.assert_allclose(loaded.score_embeddings(queries), built.score_embeddings(queries), atol=2e-3)


def test_loading_from_the_hub(router, tmp_path, hub_cache, embedder, queries):
    router.save(tmp_path / "index")
    hub_cache(tmp_path / "index", "someone/sw")
    loaded = SimilarityWeightedRouter(checkpoint_path="someone/sw", embedder=embedder)
    np.testing.assert_array_equal(loaded.score_embeddings(queries), router.score_embeddings(queries))


def write_data(folder, make_battles, hub=False):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table, embeddings = make_battles()
    columns: dict[str, Any] = {
        "prompt": [json.dumps([prompt]) for prompt in table.prompts],
        "model_a": [table.models[index] for index in table.model_a],
        "model_b": [table.models[index] for index in table.model_b],
        "winner_model_a": (table.outcome == 0).astype(int).tolist(),
        "winner_model_b": (table.outcome == 1).astype(int).tolist(),
    }
    columns["prompt"][7] = json.dumps(["short"])
    battles, vectors = folder / "battles", folder / "vectors"
    battles.mkdir()
    vectors.mkdir()
    pq.write_table(pa.table(columns), battles / "train.parquet")
    kept = np.delete(embeddings, 7, axis=0)
    pq.write_table(
        pa.table({"embeddings": kept.astype(np.float64).tolist()}), vectors / "train.parquet", row_group_size=100
    )
    return battles, vectors


def test_published_options_from_files_and_hub(tmp_path, make_battles, embedder, hub_cache, queries):
    battles, vectors = write_data(tmp_path, make_battles)
    hub_cache(battles, "someone/battles", "dataset")
    local = SimilarityWeightedRouter(
        arena_battle_datasets=[str(battles)], arena_embedding_datasets=[str(vectors)], embedder=embedder, **PAIR
    )
    mixed = SimilarityWeightedRouter(
        arena_battle_datasets=["someone/battles"], arena_embedding_datasets=[vectors], embedder=embedder, **PAIR
    )
    assert local.describe()["battles"] == 399
    np.testing.assert_array_equal(local.score_embeddings(queries), mixed.score_embeddings(queries))
    copy = pickle.loads(pickle.dumps(local))
    np.testing.assert_array_equal(copy.score_embeddings(queries), local.score_embeddings(queries))
    assert copy.fingerprint == local.fingerprint


def test_prompts_are_embedded_where_no_embeddings_are_given(tmp_path, make_battles, embedder):
    battles, _ = write_data(tmp_path, make_battles)
    router = SimilarityWeightedRouter(arena_battle_datasets=[battles], embedder=embedder, **PAIR)
    assert router.describe()["battles"] == 399
    assert 0 <= router.score(["prompt number 3 of the battles"])[0] <= 1


def test_embeddings_must_match_the_battles(tmp_path, make_battles, embedder):
    battles, vectors = write_data(tmp_path, make_battles)
    with pytest.raises(ConfigError, match="399 battles but 798 embeddings"):
        SimilarityWeightedRouter(
            arena_battle_datasets=[battles], arena_embedding_datasets=[vectors, vectors], embedder=embedder, **PAIR
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arena_embedding_datasets": ["x"]}, "needs arena_battle_datasets"),
        ({"arena_battle_datasets": ["x"], "checkpoint_path": "y"}, "not both"),
        ({"arena_battle_datasets": "lmsys/one"}, "must be a list"),
        ({"arena_battle_datasets": []}, "must be a list"),
        ({"checkpoint_path": "no/such/folder"}, "no checkpoint folder"),
    ],
)
def test_contradictory_sources(options, message):
    with pytest.raises(ConfigError, match=message):
        SimilarityWeightedRouter(**options)


def test_default_index_is_missing_or_used(router, tmp_path, monkeypatch, embedder, queries):
    monkeypatch.setattr(router_module, "ASSETS", tmp_path)
    with pytest.raises(CheckpointError, match="ships no sw_ranking index"):
        SimilarityWeightedRouter()
    router.save(tmp_path / "sw_ranking")
    default = SimilarityWeightedRouter(embedder=embedder)
    np.testing.assert_array_equal(default.score_embeddings(queries), router.score_embeddings(queries))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strong_model": "m11x"}, "'m11x' has no battles.*Did you mean 'm11'"),
        ({"weak_model": "gpt-9"}, "'gpt-9' has no battles.*most often"),
        ({"num_tiers": 0}, "num_tiers is 0"),
        ({"dtype": "int4"}, "dtype 'int4'"),
        ({"tile_bytes": 0}, "tile_bytes is 0"),
        ({"device": "tpu"}, "device 'tpu'"),
    ],
)
def test_bad_options(make_battles, embedder, options, message):
    table, embeddings = make_battles()
    with pytest.raises(ConfigError, match=message):
        SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=embedder, **{**PAIR, **options})


def test_the_embedder_must_fit(router, make_battles, embedder, tmp_path):
    table, embeddings = make_battles()
    with pytest.raises(ConfigError, match="vectors of length 8"):
        SimilarityWeightedRouter.from_arrays(table, embeddings, embedder=replace(embedder, dimension=8), **PAIR)
    router.save(tmp_path / "index")
    with pytest.raises(ConfigError, match="built with the embedder 'hash-test'"):
        SimilarityWeightedRouter(checkpoint_path=tmp_path / "index", embedder=replace(embedder, name="other"))
    unknown = replace(embedder, dimension=None)
    odd = SimilarityWeightedRouter.from_arrays(table, embeddings[:, :8], embedder=unknown, **PAIR)
    with pytest.raises(ScoringError, match=r"shape \(1, 16\)"):
        odd.score(["hello"])
    with pytest.raises(ScoringError, match="expected"):
        router.score_embeddings(np.ones((2, 3)))
    with pytest.raises(ScoringError, match="NaN"):
        router.score_embeddings(np.full((1, 16), np.nan))


def test_bad_battle_embeddings(make_battles, embedder):
    table, embeddings = make_battles()
    with pytest.raises(ConfigError, match="finite"):
        SimilarityWeightedRouter.from_arrays(table, np.full_like(embeddings, np.nan), embedder=embedder, **PAIR)
    with pytest.raises(ConfigError, match="400 battles but 399"):
        SimilarityWeightedRouter.from_arrays(table, embeddings[1:], embedder=embedder, **PAIR)
    empty = BattleTable(("a",), *(np.empty(0, kind) for kind in (np.int32, np.int32, np.int8)))
    with pytest.raises(ConfigError, match="no battles"):
        SimilarityWeightedRouter.from_arrays(empty, np.empty((0, 16)), embedder=embedder)


def damage(folder, change):
    arrays, config = load_file(folder / "index.safetensors"), json.loads((folder / "config.json").read_text())
    change(arrays, config)
    save_file(arrays, folder / "index.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, _: arrays.pop("blocks.0.outcome"), r"index\.safetensors has no 'blocks\.0\.outcome'"),
        (lambda arrays, _: arrays.update({"blocks.0.model_a": np.zeros(3, np.int16)}), "blocks.0.model_a"),
        (lambda arrays, _: arrays.update({"blocks.0.outcome": np.full(400, 5, np.int8)}), "blocks.0.outcome"),
        (lambda arrays, _: arrays.update({"blocks.0.embeddings": np.ones((400, 3), np.int8)}), "embeddings"),
        (lambda arrays, _: arrays.update({"blocks.0.steps": np.full(400, np.nan, np.float32)}), "steps"),
        (lambda _, config: config.pop("models"), r"config\.json has no 'models'"),
        (lambda _, config: config.update(models=["a"]), "fit together"),
        (lambda _, config: config.update(model2tier={"zz": 0}), "model2tier"),
        (lambda _, config: config.update(version=99), "version 99"),
        (lambda _, config: config.update(reference_quantiles=[1, 2]), "reference_quantiles"),
        (lambda _, config: config.update(blocks=0), "fit together"),
    ],
)
def test_damaged_index(router, tmp_path, embedder, change, message):
    router.save(tmp_path, dtype="int8")
    damage(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        SimilarityWeightedRouter(checkpoint_path=tmp_path, embedder=embedder)


def test_truncated_index(router, tmp_path, embedder):
    router.save(tmp_path)
    file = tmp_path / "index.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"index\.safetensors"):
        SimilarityWeightedRouter(checkpoint_path=tmp_path, embedder=embedder)


def test_pickling(router, make_battles, tmp_path, embedder, queries):
    router.save(tmp_path)
    loaded = load_router("sw_ranking", {"checkpoint_path": tmp_path, "embedder": embedder})
    data = pickle.dumps(loaded)
    assert len(data) < 2000
    loaded.extend(*make_battles(count=20, seed=8))  # which no folder holds
    for one, copied in ((router, pickle.dumps(router)), (loaded, pickle.dumps(loaded))):
        twin = pickle.loads(copied)
        np.testing.assert_array_equal(twin.score_embeddings(queries), one.score_embeddings(queries))
        assert twin.fingerprint == one.fingerprint
    before = router.score_embeddings(queries)
    copy.deepcopy(router).extend(*make_battles(count=20, seed=9))
    np.testing.assert_array_equal(router.score_embeddings(queries), before)


def test_a_large_index_is_mapped_and_may_be_saved_over_itself(
    router, make_battles, tmp_path, embedder, queries, monkeypatch
):
    monkeypatch.setattr("routellm_core.routers.sw_ranking.files.SMALL_INDEX_BYTES", 0)
    expected = router.score_embeddings(queries)
    for dtype in ("float32", "int8"):
        router.save(tmp_path, dtype=dtype)
        mapped = SimilarityWeightedRouter(checkpoint_path=tmp_path, embedder=embedder)
        base = mapped._state.index.blocks[0].embeddings.values
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert base is not None
        np.testing.assert_allclose(mapped.score_embeddings(queries), expected, atol=5e-3)
        monkeypatch.setattr(similarity, "SMALL_INDEX_BYTES", 0)  # the mapped int8 rows themselves are multiplied
        again = pickle.loads(pickle.dumps(mapped))
        np.testing.assert_allclose(again.score_embeddings(queries), expected, atol=5e-3)
        monkeypatch.setattr(similarity, "SMALL_INDEX_BYTES", 32 << 20)
        before = mapped.score_embeddings(queries)
        mapped.save(tmp_path)
        np.testing.assert_array_equal(mapped.score_embeddings(queries), before)
        loaded = SimilarityWeightedRouter(checkpoint_path=tmp_path, embedder=embedder)
        np.testing.assert_array_equal(loaded.score_embeddings(queries), before)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "index.safetensors"]


def test_scoring_while_another_thread_extends(router, make_battles, queries):
    stop, problems = threading.Event(), []

    def score():
        while not stop.is_set():
            try:
                scores = router.score_embeddings(queries)
                assert np.isfinite(scores).all()
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=score) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(5):
        router.extend(*make_battles(count=20, seed=seed, names=f"n{seed}-"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems


def test_group_sums_by_hand():
    stored = StoredEmbeddings(np.eye(2, dtype=np.float32)[[0, 0, 1]])
    sums = NumpyGroupSums([stored], [np.array([0, 2])], [None])(np.eye(2, dtype=np.float32)[:1])
    # similarities 1, 1, 0 weigh 100, 100, 10; divided by the largest: 1 + 1 and 0.1
    np.testing.assert_allclose(sums, [[2.0, 0.1]], rtol=1e-6)


def test_exponents_by_hand():
    factor, offset = weight_exponents([1.0, 0.5, 0.0, -0.5], [0.0, 0.5, -1.0, -1.0])
    log = np.log2(10)
    # 10^(s / max s) / its largest: at s = max; below zero, at the smallest s
    np.testing.assert_allclose(factor, [log, 2 * log, 0, -2 * log])
    np.testing.assert_allclose(offset, [log, log, 0, 2 * log])


def test_quantising():
    rows = unit_rows(np.random.default_rng(0).standard_normal((20, 50)))
    levels, steps = quantise_rows(rows)
    assert levels.dtype == np.int8
    np.testing.assert_allclose(levels * steps[:, None], rows, atol=float(steps.max()) / 2 + 1e-7)
    zeros, _ = quantise_rows(np.zeros((1, 3), np.float32))
    assert not zeros.any()
