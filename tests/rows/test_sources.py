"""Sources that are no files: Python objects, data sets of the library, standard input and pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.rows.labelled import QualityRows, load_rows
from routellm_core.rows.prompts import read_conversations, read_records
from routellm_core.rows.sources import RowSource
from routellm_core.rows.vectors import vector_batches

ROWS = [{"prompt": f"question {n}", "strong": 1.0, "weak": float(n % 2), "unused": None} for n in range(2500)]


def dataset() -> Any:
    return pytest.importorskip("datasets", reason="needs the extra [hub]").Dataset.from_list(ROWS)


def stream() -> Any:
    datasets = pytest.importorskip("datasets", reason="needs the extra [hub]")
    return datasets.IterableDataset.from_generator(lambda: iter(ROWS))


def splits() -> Any:
    datasets = pytest.importorskip("datasets", reason="needs the extra [hub]")
    return datasets.DatasetDict(train=dataset(), test=dataset().select(range(3)))


def frame() -> Any:
    return pytest.importorskip("pandas", reason="needs the extra [eval]").DataFrame(ROWS)


def table() -> Any:
    return pytest.importorskip("pyarrow", reason="needs the extra [eval]").Table.from_pylist(ROWS)


OBJECTS: dict[str, Callable[[], Any]] = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "iterator": lambda: iter(ROWS),
    "columns": lambda: {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "Dataset": dataset,
    "Dataset in another format": lambda: dataset().with_format("numpy"),
    "IterableDataset": stream,
    "DatasetDict": splits,
    "DataFrame": frame,
    "Table": table,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_with_rows_are_sources(name: str) -> None:
    rows = load_rows(OBJECTS[name]())
    assert rows.prompts == tuple(row["prompt"] for row in ROWS)
    np.testing.assert_array_equal(rows.gain, [1.0 - row["weak"] for row in ROWS])  # type: ignore[union-attr]
    assert rows.places[-1].endswith("row 2500")
    assert list(read_conversations(OBJECTS[name]())) == list(rows.prompts)


def test_several_objects_and_files_join(tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text(json.dumps({"prompt": "more", "strong": 1, "weak": 0}))
    rows = load_rows([frame(), ROWS[:2], f"weight=2:{tmp_path / 'more.jsonl'}"])
    assert len(rows) == 2503
    assert rows.weights[-1] == 2.0


def test_texts_and_conversations_are_prompts() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert list(read_conversations(["a", messages, {"prompt": "b"}])) == ["a", messages, "b"]


def test_empty_cells_of_a_frame_are_empty() -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra [train]")
    rows = load_rows(
        pandas.DataFrame(
            {"prompt": ["a", "b"], "model": ["m", "m"], "score": [1, 0], "weight": [2, None], "group": [None, "g"]}
        )
    )
    assert isinstance(rows, QualityRows)
    assert rows.weights.tolist() == [2.0, 1.0]
    assert rows.groups == ("", "g")


def test_lists_in_a_frame_that_was_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra [train]")
    frame = pandas.DataFrame({"turns": [["Hi", "Why?"]], "messages": [None]})
    frame.to_parquet(tmp_path / "a.parquet")
    again = pandas.read_parquet(tmp_path / "a.parquet")[["turns"]]
    assert [message["content"] for message in next(read_conversations(again))] == ["Hi", "Why?"]


@pytest.mark.parametrize("value", [3, b"bytes", {"prompt": ["a"], "strong": [1, 2]}, {}, object()])
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="rows cannot be read from a"):
        list(read_conversations(value))


def test_only_the_columns_that_are_wanted_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra [hub]")

    class Untouchable(dict):  # type: ignore[type-arg]
        def __getitem__(self, key: str) -> Any:
            assert key != "answer"
            return super().__getitem__(key)

    data = datasets.Dataset.from_dict({"prompt": ["a"], "answer": ["long"]})
    assert next(RowSource.parse(data).rows(["prompt"])) == ("Dataset, row 1", {"prompt": "a"})
    assert next(read_records([Untouchable(prompt="a", answer="long")])).conversation == "a"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize("name", ["/dev/stdin", "-"])
def test_a_pipe_is_read_once(tmp_path: Path, name: str) -> None:
    rows = "".join(json.dumps({"prompt": f"question {n}", "strong": 1, "weak": 0}) + "\n" for n in range(5))
    routellm = str(Path(sys.executable).with_name("routellm"))
    for words in (
        ["route", "--json", "--file", name],
        ["calibrate", "--routers", "mf", "--strong-model-pct", "0.5", "--no-cache", "--prompts", name],
        ["evaluate", "--routers", "random", "--no-plots", "--no-cache", "--output", str(tmp_path), "--data", name],
    ):
        done = subprocess.run([routellm, *words], input=rows, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert "5 prompts" in done.stdout + done.stderr
    two = [routellm, "calibrate", "--routers", "mf", "random", "--strong-model-pct", "0.5", "--prompts", name]
    refused = subprocess.run(two, input=rows, capture_output=True, text=True, timeout=100)
    assert refused.returncode == 2
    assert "can be read only once" in refused.stderr


@pytest.mark.parametrize("name", ["Dataset", "Table", "list", "npz"])
def test_vectors_come_in_batches(tmp_path: Path, name: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((2500, 6)).astype(np.float32)
    source: Any = [{"embeddings": row} for row in vectors.tolist()]
    if name == "Dataset":
        source = pytest.importorskip("datasets").Dataset.from_dict({"embeddings": vectors.tolist()})
    elif name == "Table":
        source = pytest.importorskip("pyarrow").table({"embeddings": vectors.tolist()})
    elif name == "npz":
        source = tmp_path / "a.npz"
        np.savez(source, embeddings=vectors)
    batches = list(vector_batches(RowSource.parse(source), "embeddings"))
    assert len(batches) == 3
    np.testing.assert_allclose(np.concatenate(batches), vectors, atol=1e-6)
