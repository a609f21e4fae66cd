from __future__ import annotations

import io
from pathlib import Path

import pytest

from routellm_core.errors import ConfigError
from routellm_core.rows.prompts import read_conversations

MESSAGES = [{"role": "user", "content": "Hi"}]


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.txt", "one\n\n  two\nthree", ["one", "  two", "three"]),
        ("p.jsonl", '{"prompt": "one"}\n"two"\n\n{"text": "three"}\n', ["one", "two", "three"]),
        (
            "m.jsonl",
            '{"messages": [{"role": "user", "content": "Hi"}]}\n[{"role": "user", "content": "Hi"}]',
            [MESSAGES] * 2,
        ),
        ("p.csv", 'id,prompt\n1,"a\nb"\n2,"c, d"\n', ["a\nb", "c, d"]),
        ("bom.csv", b"\xef\xbb\xbfprompt\nx\n", ["x"]),
        ("empty.txt", "", []),
        ("long.csv", "prompt\n" + "x" * 300_000 + "\n", ["x" * 300_000]),
    ],
)
def test_each_form_is_read(tmp_path: Path, name: str, content: str | bytes, expected: list[object]) -> None:
    assert list(read_conversations(file(tmp_path, name, content))) == expected


def test_the_column_can_be_named(tmp_path: Path) -> None:
    path = file(tmp_path, "p.csv", "prompt,instruction\nno,yes\n")
    assert list(read_conversations(path, column="instruction")) == ["yes"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{broken', "line 2: not JSON"),
        ("p.jsonl", '{"prompt": "a"}\n{"promt": "b"}', "line 2: no column 'prompt'.*it has 'promt'"),
        ("p.jsonl", '{"prompt": 3}', "line 1: messages must be a list"),
        ("p.csv", "question_id\n1\n", "line 2: no column.*--column"),
        ("p.txt", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(read_conversations(file(tmp_path, name, content)))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.txt cannot be read"):
        list(read_conversations(Path("nowhere.txt")))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ('\n{"prompt": "one"}\n"two"\n', ["one", "two"]),
        ("[draft] a title\n{not json}\n", ["[draft] a title", "{not json}"]),
        ("", []),
    ],
)
def test_standard_input_is_text_or_json_lines(
    monkeypatch: pytest.MonkeyPatch, content: str, expected: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    assert list(read_conversations(None)) == expected
