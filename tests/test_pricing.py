from __future__ import annotations

import subprocess
import sys

import pytest

from routellm_core import ModelSettings
from routellm_core.pricing import Price, estimate_tokens, load_price_map, price_of


def test_known_models_have_a_price_with_and_without_their_provider() -> None:
    price = price_of("gpt-4-1106-preview")
    assert price == Price(1e-05, 3e-05)
    assert price_of("openai/gpt-4-1106-preview") == price
    assert price.dollars(1000, 100) == pytest.approx(0.013)


def test_settings_win_and_the_unknown_is_none() -> None:
    own = ModelSettings(model="gpt-4-1106-preview", input_cost_per_token=1.0, output_cost_per_token=2.0)
    assert price_of(own) == Price(1.0, 2.0)
    assert price_of("my-own-model") is None


def test_the_map_is_read_without_importing_litellm() -> None:
    code = "import sys; from routellm_core import pricing; pricing.load_price_map(); print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert len(load_price_map()) > 100


def test_tokens_are_estimated_from_length() -> None:
    assert estimate_tokens("a" * 400) == 100
