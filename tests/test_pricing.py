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


def test_a_name_without_a_provider_takes_the_first_providers_price_and_says_so() -> None:
    published = price_of("mistralai/Mixtral-8x7B-Instruct-v0.1")  # of the published pair: evaluate and calibrate agree
    assert published is not None
    assert published.source.startswith("price map entry 'anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1': $")
    assert price_of("hosted_vllm/mistralai/Mixtral-8x7B-Instruct-v0.1") is None  # one's own machines have no such price


def test_the_map_is_read_without_importing_litellm() -> None:
    code = "import sys; from routellm_core import pricing; pricing.load_price_map(); print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert len(load_price_map()) > 100


def test_tokens_are_estimated_from_length() -> None:
    assert estimate_tokens("a" * 400) == 100
