"""Shipped test doubles: for this project's tests, for adapters, and for users' own tests. None of them is a mock.

- :class:`FixedScoreRouter` scores as it is told, :class:`FakeBackend` answers without a network.
- :class:`RouterContract` is the test suite that every router passes; subclass it for your own.
- :class:`LocalModelServer` (``python -m routellm_core.testing.local_models``) is an OpenAI-compatible process.
"""

from routellm_core.testing.fakes import FakeBackend, FixedScoreRouter

__all__ = ["FakeBackend", "FixedScoreRouter"]
