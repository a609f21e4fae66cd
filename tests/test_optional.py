from __future__ import annotations

import sys

import pytest

from routellm_core._optional import import_extra
from routellm_core.embeddings import load_embedder
from routellm_core.errors import MissingExtraError


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(
        MissingExtraError, match=r"The thing needs .*'no_such_package'.*routellm-core\[thing\]"
    ) as raised:
        import_extra("no_such_package.inner", extra="thing", purpose="The thing")
    assert raised.value.extra == "thing"
    assert isinstance(raised.value, ImportError)


def test_an_embedder_without_its_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError):
        load_embedder("sentence-transformers/all-MiniLM-L6-v2")


def test_what_a_package_itself_lacks_is_not_disguised(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import its_missing_dependency")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency") as raised:
        import_extra("half_installed", extra="x", purpose="X")
    assert not isinstance(raised.value, MissingExtraError)
