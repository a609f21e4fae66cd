"""Each format by itself: what is a row, what is refused, and that nothing is read more than it need be."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.rows.files import read_rows, read_table


def rows_of(path: Path) -> list[Any]:
    return [row for _, row in read_rows(path)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"prompt": "a"} {"prompt": "b"}]', r"not JSON \(Expecting ',' delimiter: line 1"),
        ('[{"prompt": "a"},\n\n {"prompt": b}]', "line 3"),
        ('[{"prompt": "a"}', "line 1"),
        ('[{"prompt": "a"}]\n[{"prompt": b}]', "line 2: not JSON"),
        ('{"prompt": "a"} x', "line 1: not JSON"),
        ("prompts\n", "line 1"),
        ("", "not JSON"),
    ],
)
def test_broken_json_is_named_by_its_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        rows_of(tmp_path / "rows.json")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv", "rows.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    path, text, count = tmp_path / name, "a prompt of some length " * 4, 30_000
    if name == "rows.parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow; install routellm-core[eval]")
        table = pyarrow.table({"prompt": [text] * count})
        pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=2_000)
    elif name == "rows.csv":
        path.write_text("prompt\n" + f"{text}\n" * count)
    else:
        path.write_bytes(gzip.compress((json.dumps({"prompt": text}) + "\n").encode() * count))
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_500_000  # of about 3.5 MB of text, and far more in Python objects


def test_one_object_is_one_row_and_one_of_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"prompt": "a",\n "strong": 1}')
    assert rows_of(path) == [{"prompt": "a", "strong": 1}]
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}')
    assert len(rows_of(path)) == 1
    path.write_text('{"prompt": {"0": "a"}, "strong": {"0": 1}}')  # as pandas writes without orient
    with pytest.raises(ConfigError, match="orient='records'"):
        rows_of(path)


def test_line_ends_of_other_systems_and_of_texts_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\u2028still two\r\n".encode())
    assert rows_of(tmp_path / "a.txt") == ["one", "two\u2028still two"]
    (tmp_path / "a.jsonl").write_bytes('{"prompt": "a\u2028\x85b"}\r\n"c"'.encode())
    assert rows_of(tmp_path / "a.jsonl") == [{"prompt": "a\u2028\x85b"}, "c"]
    (tmp_path / "a.csv").write_bytes(b'prompt,n\r\n"a\r\nb",1\r\n\r\nc,2\r\n')
    assert rows_of(tmp_path / "a.csv") == [{"prompt": "a\r\nb", "n": "1"}, {"prompt": "c", "n": "2"}]


def test_an_array_in_a_jsonl_file_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('[\n{"prompt": "a"}\n]')
    with pytest.raises(ConfigError, match=r"line 1: not JSON .*belongs in a \.json file"):
        rows_of(tmp_path / "a.jsonl")


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", prompt=np.array(["a", "b"]), strong=np.ones(3))
    with pytest.raises(ConfigError, match=r"one entry per row; the shapes are prompt \(2,\), strong \(3,\)"):
        rows_of(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", prompt=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match=r"b\.npz cannot be read"):
        rows_of(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.npz.gz", "a.gz", "a.md", "a.zip"])
def test_other_endings_are_refused_with_what_is_readable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"readable are \.txt, \.jsonl.*\.parquet and \.npz"):
        rows_of(tmp_path / name)


def test_a_table_holds_mappings_only(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n[1, 2]\n')
    with pytest.raises(ConfigError, match="line 2: expected an object with columns"):
        list(read_table(tmp_path / "a.jsonl"))
