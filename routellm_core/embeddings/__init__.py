"""Embedders, found by name.

A name is one of::

    static                                  the embedded default: numpy only, ships with the package
    minilm                                  all-MiniLM-L6-v2, extra [minilm]
    sentence-transformers/<model>           any sentence-transformers model, extra [sentence-transformers]
    litellm/<model>                         any embedding API, such as litellm/text-embedding-3-small
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from routellm_core._options import build_from_options
from routellm_core.embeddings.base import Embedder, Embeddings, semantic_width
from routellm_core.errors import ConfigError, did_you_mean

__all__ = ["Embedder", "Embeddings", "load_embedder", "semantic_width"]

_EMBEDDED = {
    "static": "routellm_core.embeddings.static:StaticEmbedder",
    "minilm": "routellm_core.embeddings.minilm:MiniLMEmbedder",
}
_BY_MODEL = {
    "sentence-transformers": "routellm_core.embeddings.sentence_transformers:SentenceTransformersEmbedder",
    "litellm": "routellm_core.embeddings.litellm:LiteLLMEmbedder",
}


def load_embedder(spec: str | Mapping[str, Any] | Embedder) -> Embedder:
    """Build an embedder from its name, or from a mapping of its name and options.

    Args:
        spec: a name as above; or a mapping such as ``{"name": "litellm/text-embedding-3-small", "api_base": …,
            "cache": False}`` with the options of the embedder's class, and ``cache``: True (the default for hosted
            and transformer models), False, or the path of the cache file; and ``cache_megabytes``, the most that it
            holds. An embedder is returned as it is.

    Raises:
        ConfigError: an unknown name or option.
        MissingExtraError: its extra is not installed.
    """
    if isinstance(spec, (str, Mapping)):
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        return _build(options)
    if isinstance(spec, Embedder):
        return spec
    raise ConfigError(f"embedder must be a name, a mapping or an Embedder, got {type(spec).__name__}")


def _build(options: dict[str, Any]) -> Embedder:
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError("an embedder needs a 'name', such as 'static' or 'litellm/text-embedding-3-small'")
    kind, _, model = name.partition("/")
    # A checkpoint records the versioned name of its embedder, such as static-v2.
    embedded = next((key for key in _EMBEDDED if name == key or name.startswith(f"{key}-")), None)
    cache = options.pop("cache", embedded != "static")  # looking a text up takes longer than embedding it statically
    limit = options.pop("cache_megabytes", 1024)
    if not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"embedder {name!r}: cache_megabytes must be a positive number of megabytes, got {limit!r}")
    if embedded:
        embedder = _instantiate(_EMBEDDED[embedded], name, options)
    elif kind in _BY_MODEL and model:
        embedder = _instantiate(_BY_MODEL[kind], name, {"model": model, **options})
    else:
        known = [*_EMBEDDED, *(f"{prefix}/<model>" for prefix in _BY_MODEL)]
        raise ConfigError(
            f"unknown embedder {name!r}; write one of {', '.join(known)}.{did_you_mean(name, [*_EMBEDDED, *_BY_MODEL])}"
        )
    if not cache:
        return embedder
    from routellm_core.embeddings.cache import CachedEmbedder

    return CachedEmbedder(embedder, path=None if cache is True else Path(cache).expanduser(), megabytes=limit)


def _instantiate(target: str, name: str, options: dict[str, Any]) -> Embedder:
    module, _, attribute = target.partition(":")
    embedder: Embedder = build_from_options(
        getattr(import_module(module), attribute), options, subject=f"embedder {name!r}"
    )
    return embedder
