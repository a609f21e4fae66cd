from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routellm_core.errors import ConfigError
from routellm_core.rows.prompts import read_conversations, read_records

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def parquet(tmp_path: Path) -> Any:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow; install routellm-core[eval]")
    writer = pytest.importorskip("pyarrow.parquet")

    def write(rows: list[dict[str, Any]], **options: Any) -> Path:
        path = tmp_path / "p.parquet"
        writer.write_table(pyarrow.Table.from_pylist(rows), path, **options)
        return path

    return write


def test_parquet_is_read_over_its_row_groups(parquet: Any) -> None:
    rows = [{"id": number, "prompt": f"prompt {number}"} for number in range(3000)]
    path = parquet(rows, row_group_size=1300)
    assert list(read_conversations(path)) == [row["prompt"] for row in rows]
    records = list(read_records(path, columns=("id", "absent")))
    assert [record.values for record in records[:2]] == [{"id": 0}, {"id": 1}]
    assert records[-1].place.endswith("p.parquet, row 3000")


def test_parquet_holds_messages_and_named_columns(parquet: Any) -> None:
    path = parquet([{"messages": MESSAGES, "instruction": "Do it"}])
    assert list(read_conversations(path)) == [MESSAGES]
    assert list(read_conversations(path, column="instruction")) == ["Do it"]


def test_a_broken_or_strange_parquet_is_named(parquet: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"row 1: no column 'prompt'.*it has 'x'"):
        list(read_conversations(parquet([{"x": 1}])))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match="cannot be read as parquet"):
        list(read_conversations(tmp_path / "broken.parquet"))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_conversations(tmp_path / "nowhere.parquet"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"prompt": "a", "strong": 1}\n{"prompt": "b"}\n"c"\n'),
        ("p.csv", "prompt,strong\na,1\nb,\n"),
        ("p.txt", "a\nb\n"),
    ],
)
def test_further_columns_come_along(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    first, second, *_ = read_records(tmp_path / name, columns=("strong",))
    assert (first.conversation, second.conversation) == ("a", "b")
    assert str(first.values.get("strong", "1")) == "1"
    assert not second.values.get("strong")
