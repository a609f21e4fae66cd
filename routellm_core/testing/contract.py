"""The test suite that every router passes. Subclass it in a pytest file and name the router."""

from __future__ import annotations

import math
import pickle
from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pytest

from routellm_core.errors import RouteLLMError
from routellm_core.routers.base import Router, checked_scores


class RouterContract:
    """What :class:`~routellm_core.routers.base.Router` promises, as tests.

    ::

        class TestMyRouter(RouterContract):
            def make_router(self) -> Router:
                return MyRouter(checkpoint_path=...)

    Attributes:
        tolerance: how far a score may move with the batch it is in. Exact by default; floating-point matrix
            products of other shapes may differ in the last digits.
        depends_on_order: True for a router whose scores depend on the order of calls (``random``).
    """

    tolerance: float = 1e-9
    depends_on_order: bool = False
    prompts: Sequence[str] = (
        "hi",
        "What is 17 * 24?",
        "Prove that there are infinitely many primes congruent to 3 modulo 4.",
        "Übersetze: „Der frühe Vogel fängt den Wurm.“ 日本語 🙂",
        "def f(x):\n    return x ** 2\n\nWhat does f(3) return?",
        "hi",
    )

    @abstractmethod
    def make_router(self) -> Router:
        """Return the router under test, freshly built."""

    def test_scores_are_probabilities_in_order(self) -> None:
        scores = checked_scores(self.make_router(), self.prompts)
        assert scores.shape == (len(self.prompts),)
        if not self.depends_on_order:
            assert math.isclose(scores[0], scores[-1], abs_tol=self.tolerance), "equal prompts, different scores"

    def test_batch_equals_single(self) -> None:
        together = checked_scores(self.make_router(), self.prompts)
        router = self.make_router()
        alone = np.array([checked_scores(router, [prompt])[0] for prompt in self.prompts])
        np.testing.assert_allclose(together, alone, rtol=0, atol=self.tolerance)

    def test_scores_are_reproducible(self) -> None:
        first = checked_scores(self.make_router(), self.prompts)
        second = checked_scores(self.make_router(), self.prompts)
        np.testing.assert_array_equal(first, second)

    def test_no_prompts_no_scores(self) -> None:
        assert checked_scores(self.make_router(), []).shape == (0,)

    @pytest.mark.parametrize(
        "prompt", ["", " ", "\x00", "\ud800 lone surrogate", "a" * 1_000_000, "word " * 200_000, "\n" * 10_000]
    )
    def test_strange_prompts_are_scored(self, prompt: str) -> None:
        checked_scores(self.make_router(), [prompt, "hi"])

    def test_fingerprint_is_stable(self) -> None:
        assert self.make_router().fingerprint == self.make_router().fingerprint
        assert self.make_router().fingerprint

    def test_describes_itself(self) -> None:
        router = self.make_router()
        facts = router.describe()
        assert facts["router"] == router.name
        assert facts["prompt_limit"]

    def test_reference_quantiles_ascend(self) -> None:
        quantiles = self.make_router().reference_quantiles
        if quantiles is not None:
            assert quantiles.shape == (1001,)
            assert (np.diff(quantiles) >= 0).all()

    def test_a_copy_scores_alike(self) -> None:
        twin = deepcopy(self.make_router())
        np.testing.assert_array_equal(
            checked_scores(twin, self.prompts), checked_scores(self.make_router(), self.prompts)
        )

    def test_pickles_or_refuses_clearly(self) -> None:
        router = self.make_router()
        try:
            copy = pickle.loads(pickle.dumps(router))  # noqa: S301 (our own bytes)
        except RouteLLMError:
            return
        if not self.depends_on_order:
            expected = checked_scores(router, self.prompts)
            np.testing.assert_allclose(checked_scores(copy, self.prompts), expected, rtol=0, atol=self.tolerance)
