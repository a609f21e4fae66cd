from __future__ import annotations

from typing import Any

import pytest

from routellm_core.embeddings import load_embedder
from routellm_core.embeddings.cache import CachedEmbedder
from routellm_core.errors import ConfigError


def test_names_find_their_embedder() -> None:
    static = load_embedder("static")
    assert static.name.startswith("static-")
    assert not isinstance(static, CachedEmbedder)
    assert not isinstance(load_embedder(static.name), CachedEmbedder)
    hosted = load_embedder("litellm/text-embedding-3-small")
    assert hosted.name == "litellm/text-embedding-3-small"
    assert isinstance(hosted, CachedEmbedder)
    assert not isinstance(load_embedder({"name": "litellm/m", "cache": False}), CachedEmbedder)
    assert load_embedder(hosted) is hosted


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("statik", "unknown embedder 'statik'.*Did you mean 'static'"),
        ("litellm/", "unknown embedder"),
        ({"api_base": "x"}, "needs a 'name'"),
        ({"name": "litellm/m", "api_bse": "x"}, "no option 'api_bse'.*Did you mean 'api_base'"),
        (3, "got int"),
    ],
)
def test_anything_else_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_embedder(spec)
