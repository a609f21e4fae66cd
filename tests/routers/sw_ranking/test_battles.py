from __future__ import annotations

import json

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.routers.sw_ranking.battles import (
    BattleTable,
    embedding_batches,
    load_battles,
    preprocess_battles,
)


def raw_columns(count=6):
    prompts = [
        "first prompt of enough length",
        "exactly 16 chars",
        "15 characters..",
        "  padded to be long     ",
        "x" * 40,
        "y" * 40,
    ]
    return {
        "prompt": [json.dumps([prompt, "second turn"]) for prompt in prompts[:count]],
        "model_a": ["a", "b", "c", "a", "b", "c"][:count],
        "model_b": ["b", "c", "a", "c", "a", "b"][:count],
        "winner_model_a": [1, 0, 1, 0, 0, 1][:count],
        "winner_model_b": [0, 1, 0, 0, 1, 0][:count],
        "winner_tie": [0, 0, 0, 1, 0, 0][:count],
    }


def test_preprocessing_drops_short_prompts_and_reads_winners():
    table, kept = preprocess_battles(raw_columns())
    assert kept.tolist() == [0, 1, 3, 4, 5]
    assert table.models == ("a", "b", "c")
    assert [table.models[index] for index in table.model_a] == ["a", "b", "a", "b", "c"]
    assert table.outcome.tolist() == [0, 1, 2, 1, 0]
    assert table.prompts is not None
    assert table.prompts[2] == "padded to be long"


@pytest.mark.parametrize("name", ["sw_600_20m_64d", "sw_800_64m_32d"])
def test_golden_preprocessing(golden, read_json, name):
    facts, arrays = read_json(golden / f"{name}.json"), np.load(golden / f"{name}.npz")
    default = json.dumps(["a prompt that is long enough to stay"])
    columns = {
        "prompt": [facts["prompts_special"].get(str(row), default) for row in range(facts["n_raw"])],
        "model_a": [facts["names"][index] for index in arrays["model_a"]],
        "model_b": [facts["names"][index] for index in arrays["model_b"]],
        "winner_model_a": (arrays["winner"] == 0).astype(int).tolist(),
        "winner_model_b": (arrays["winner"] == 1).astype(int).tolist(),
    }
    table, kept = preprocess_battles(columns)
    assert sorted(set(range(facts["n_raw"])) - set(kept.tolist())) == facts["dropped"]
    assert kept.tolist() == arrays["kept_rows"].tolist()
    assert len(table) == facts["n_kept"]
    assert table.outcome.tolist() == arrays["winner"][kept].tolist()


def test_a_prompt_is_a_text_or_turns_or_messages():
    battle = {"model_a": "a", "model_b": "b", "winner": "model_a"}
    plain = "a plain text that is long enough"
    turns = ["a turn that is long enough", "another"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a message, long enough"}]
    table, _ = preprocess_battles([{**battle, "prompt": prompt} for prompt in (plain, turns, messages)])
    assert table.prompts == (plain, turns[0], "a message, long enough")
    mixed = ['["a JSON list beside", "texts is a text"]', plain]
    assert preprocess_battles([{**battle, "prompt": prompt} for prompt in mixed])[0].prompts == tuple(mixed)


@pytest.mark.parametrize("prompt", [[], {}, 3, None])
def test_what_is_no_prompt_is_refused_with_its_row(prompt):
    battle = {"model_a": "a", "model_b": "b", "winner": "model_a"}
    with pytest.raises(ConfigError, match="row 2: messages"):
        preprocess_battles([{**battle, "prompt": "a plain text that is long enough"}, {**battle, "prompt": prompt}])


def test_missing_columns():
    columns = raw_columns()
    del columns["model_b"]
    with pytest.raises(ConfigError, match="'model_b'"):
        preprocess_battles(columns)
    columns = raw_columns()
    del columns["winner_model_b"]
    with pytest.raises(ConfigError, match="winner"):
        preprocess_battles(columns)


def test_winner_names():
    columns = {**raw_columns(3), "winner": ["model_b", "tie (bothbad)", "tie"]}
    del columns["winner_model_a"], columns["winner_model_b"]
    assert preprocess_battles(columns)[0].outcome.tolist() == [1, 2]
    columns["winner"][0] = "model_c"
    with pytest.raises(ConfigError, match="'model_c'"):
        preprocess_battles(columns)


def write(folder, kind, columns, name="train"):
    """Write columns as one file of a data set."""
    file = folder / f"{name}.{kind}"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), file)
    elif kind == "csv":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.csv as csv

        columns = {k: [json.dumps(v) if isinstance(v, list) else v for v in values] for k, values in columns.items()}
        csv.write_csv(pa.table(columns), file)
    elif kind == "npz":
        np.savez(file, **{key: np.array(values) for key, values in columns.items()})
    else:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        text = json.dumps(rows) if kind == "json" else "\n".join(json.dumps(row) for row in rows)
        file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "jsonl", "npz"])
def test_every_format_gives_the_same_battles(tmp_path, kind):
    columns = raw_columns()
    columns["prompt"][0] = json.dumps(['a "quoted", prompt\nover two lines, ümlaut'])
    table = load_battles([write(tmp_path, kind, columns)])
    expected, _ = preprocess_battles(columns)
    assert table.prompts == expected.prompts
    assert table.outcome.tolist() == expected.outcome.tolist()
    assert table.model_a.tolist() == expected.model_a.tolist()


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "jsonl", "npz"])
def test_every_format_gives_the_same_embeddings(tmp_path, kind):
    vectors = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    file = write(tmp_path, kind, {"embeddings": vectors.tolist()})
    np.testing.assert_allclose(
        np.concatenate(list(embedding_batches([file, file]))), np.tile(vectors, (2, 1)), atol=1e-6
    )


def test_a_folder_gives_its_train_split_in_order(tmp_path):
    columns = raw_columns()
    (tmp_path / "data").mkdir()
    first = {name: values[:3] for name, values in columns.items()}
    second = {name: values[3:] for name, values in columns.items()}
    write(tmp_path / "data", "parquet", second, "train-00001-of-00002")
    write(tmp_path / "data", "parquet", first, "train-00000-of-00002")
    write(tmp_path / "data", "parquet", columns, "test-00000-of-00001")
    write(tmp_path, "json", columns, "dataset_infos")
    table = load_battles([tmp_path])
    assert table.prompts == preprocess_battles(columns)[0].prompts


def test_data_sets_are_joined_by_name(tmp_path):
    one, two = raw_columns(), raw_columns()
    two["model_a"] = ["z"] * 6
    table = load_battles([write(tmp_path, "json", one, "one"), write(tmp_path, "json", two, "two")])
    assert table.models == ("a", "b", "c", "z")
    assert [table.models[index] for index in table.model_a][5:] == ["z"] * 5


def test_hub_data_set(hub_cache, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    write(folder, "csv", raw_columns())
    hub_cache(folder, "someone/battles", "dataset")
    assert len(load_battles(["someone/battles"])) == 5
    assert len(load_battles(["someone/battles@main"])) == 5
    with pytest.raises(ConfigError, match="someone/absent"):
        load_battles(["someone/absent"])


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "./x", ""])
def test_neither_file_nor_hub_id(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        load_battles([source])


def test_unreadable_files(tmp_path):
    pickle = tmp_path / "battles.pkl"
    pickle.write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"\.pkl"):
        load_battles([pickle])
    for name, content in (("a.json", b"["), ("b.jsonl", b"{"), ("c.npz", b"x"), ("d.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            load_battles([tmp_path / name])


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", embeddings=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match=r"x\.npz"):
        list(embedding_batches([tmp_path / "x.npz"]))


def test_embeddings_of_different_lengths(tmp_path):
    file = write(tmp_path, "json", {"embeddings": [[1.0, 2.0], [1.0]]})
    with pytest.raises(ConfigError, match="one length"):
        list(embedding_batches([file]))
    with pytest.raises(ConfigError, match="no column 'embeddings'"):
        list(embedding_batches([write(tmp_path, "jsonl", {"other": [1]})]))


def test_table_checks_its_columns():
    good = {"model_a": np.array([0], np.int32), "model_b": np.array([1], np.int32), "outcome": np.array([2], np.int8)}
    assert len(BattleTable(("a", "b"), **good)) == 1
    for change, message in (
        ({"model_a": np.array([2], np.int32)}, "model_a"),
        ({"outcome": np.array([3], np.int8)}, "outcome"),
        ({"model_b": np.array([], np.int32)}, "length"),
        ({"prompts": ("a", "b")}, "length"),
    ):
        with pytest.raises(ConfigError, match=message):
            BattleTable(("a", "b"), **{**good, **change})
    with pytest.raises(ConfigError, match="twice"):
        BattleTable(("a", "a"), **good)
