from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.config import ENVIRONMENT, RouteLLMConfig, build_controller, load_config
from routellm_core.errors import ConfigError, InvalidThresholdError, RouteLLMError
from routellm_core.testing import FakeBackend


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_routellm_s_own_form_works_unchanged(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            """
            sw_ranking:
                arena_battle_datasets:
                  - lmsys/lmsys-arena-human-preference-55k
                arena_embedding_datasets:
                  - routellm/arena_battles_embeddings
            causal_llm:
                checkpoint_path: routellm/causal_llm_gpt4_augmented
            mf:
                checkpoint_path: routellm/mf_gpt4_augmented
            """,
        ),
        environment={},
    )
    assert config.routers["mf"] == {"checkpoint_path": "routellm/mf_gpt4_augmented"}
    assert config.routers["sw_ranking"]["arena_embedding_datasets"] == ["routellm/arena_battles_embeddings"]


def test_the_shipped_example_is_valid(repository: Path) -> None:
    config = load_config(repository / "config.example.yaml", environment={"OPENAI_API_KEY": "k"})
    assert config.models.weak.api_base == "http://127.0.0.1:11434"
    assert config.fallback.policy() == ResiliencePolicy(attempts=2, wait_initial=0.5, wait_max=8.0, fallback=True)


def test_the_environment_fills_in_what_the_file_leaves_out(tmp_path: Path) -> None:
    path = write(tmp_path, "models: {strong: gpt-4.1}\nthreshold: 0.3")
    environment = {
        "ROUTELLM_CONFIG": str(path),
        "ROUTELLM_STRONG_MODEL": "ignored",
        "ROUTELLM_STRONG_API_KEY": "sk-strong",
        "ROUTELLM_WEAK_MODEL": "ollama_chat/llama3.1",
        "ROUTELLM_WEAK_API_BASE": "http://127.0.0.1:11434",
        "ROUTELLM_THRESHOLD": "0.9",
    }
    config = load_config(environment=environment)
    assert config.models.strong.model == "gpt-4.1"
    assert config.models.strong.api_key is not None
    assert config.models.strong.api_key.get_secret_value() == "sk-strong"
    assert (config.models.weak.model, config.models.weak.api_base) == ("ollama_chat/llama3.1", "http://127.0.0.1:11434")
    assert config.threshold == 0.3


def test_every_environment_variable_names_a_setting() -> None:
    values = {"threshold": "0.5", "on_scoring_error": "weak", "port": "6061", "api_keys": "one, two"}
    for variable, location in ENVIRONMENT.items():
        environment = {"ROUTELLM_STRONG_MODEL": "x", "ROUTELLM_WEAK_MODEL": "x"}
        environment[variable] = values.get(location[-1], "x")
        config: Any = load_config(environment=environment)
        for part in location:
            config = getattr(config, part)
        if location[-1] == "api_keys":
            config = ", ".join(key.key.get_secret_value() for key in config)
        value = config.get_secret_value() if hasattr(config, "get_secret_value") else config
        assert str(value) == values.get(location[-1], "x")


def test_every_setting_has_a_variable_by_its_path() -> None:
    environment = {
        "ROUTELLM_FALLBACK__ATTEMPTS": "3",
        "ROUTELLM_MODELS__WEAK__EXTRA": '{"temperature": 0.2}',
        "ROUTELLM_ROUTERS__MF__CHECKPOINT_PATH": "minilm",
        "ROUTELLM_SERVER__API_KEYS": '["one", {"key": "two", "name": "bob"}]',
        "ROUTELLM_CALIBRATION": "traffic.json",
    }
    config = load_config(environment=environment)
    assert config.fallback.attempts == 3
    assert config.models.weak.extra == {"temperature": 0.2}
    assert config.routers == {"mf": {"checkpoint_path": "minilm"}}
    assert [key.name for key in config.server.api_keys] == ["", "bob"]
    assert (config.calibration, config.threshold) == ("traffic.json", None)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ROUTELLM_THRESHOLD", "high", "'threshold'.*a number in"),
        ("ROUTELLM_SERVER_PORT", "http", "'server.port'.*valid integer.*got 'http'"),
        ("ROUTELLM_ON_SCORING_ERROR", "maybe", "'on_scoring_error'"),
        ("ROUTELLM_FALLBACK__ATTEMPTS", "0", "'fallback.attempts'.*greater than or equal to 1"),
        ("ROUTELLM_MODELS__WEAK__EXTRA", "warm", "'models.weak.extra'"),
        ("ROUTELLM_STRONG_API_BASE", "http://127.0.0.1", "'models.strong.model' is missing"),
    ],
)
def test_a_fault_of_a_variable_names_the_variable_and_not_the_file(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    path = write(tmp_path, "router: random")
    with pytest.raises(ConfigError, match=f"^environment variable {variable}: {said}") as raised:
        load_config(path, environment={variable: value})
    assert str(path) not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, "router: 3"), environment={variable: value})
    assert str(path) in str(raised.value)
    assert variable in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ROUTELLM_TRESHOLD", "ROUTELLM_THRESHOLD"),
        ("ROUTELLM_STRONG_MODLE", "ROUTELLM_STRONG_MODEL"),
        ("ROUTELLM_SERVER_APIKEYS", "ROUTELLM_SERVER_API_KEYS"),
        ("ROUTELLM_FALLBACK__ATTEMPS", "ROUTELLM_FALLBACK__ATTEMPTS"),
        ("ROUTELLM_ROUTERS__MFF__SEED", "ROUTELLM_ROUTERS__MF"),
    ],
)
def test_a_misspelled_variable_is_refused(variable: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} names no setting.*Did you mean '{meant}'"):
        load_config(environment={variable: "0.3"})


def test_any_other_variable_of_ours_is_reported_and_foreign_ones_are_not() -> None:
    with pytest.warns(UserWarning, match="ROUTELLM_XYZZY names no setting"):
        assert load_config(environment={"ROUTELLM_XYZZY": "1"}) == RouteLLMConfig()
    kubernetes = {"ROUTELLM_SERVICE_HOST": "10.0.0.1", "ROUTELLM_PORT": "tcp://x", "ROUTELLM_PORT_6060_TCP_ADDR": "x"}
    assert load_config(environment={**kubernetes, "ROUTELLM_ROUTER": ""}) == RouteLLMConfig()


def test_a_key_alone_is_for_the_default_model() -> None:
    models = load_config(environment={"ROUTELLM_STRONG_API_KEY": "sk"}).models
    assert models.strong.model == RouteLLMConfig().models.strong.model
    with pytest.raises(ConfigError, match=r"models.strong.model' is missing"):
        load_config(environment={"ROUTELLM_STRONG_API_BASE": "http://127.0.0.1"})


def test_variables_in_strings_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, "models: {strong: {model: m, api_key: '${KEY}', api_base: '${BASE:-http://default}/v1'}}")
    strong = load_config(path, environment={"KEY": "secret"}).models.strong
    assert strong.api_key is not None
    assert (strong.api_key.get_secret_value(), strong.api_base) == ("secret", "http://default/v1")
    with pytest.raises(ConfigError, match="environment variable KEY is not set"):
        load_config(path, environment={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: {}", "unknown key 'modles'.*Did you mean 'models'"),
        ("models: {strong: {model: m, api_bse: x}}", r"unknown key 'models.strong.api_bse'.*Did you mean 'api_base'"),
        ("models: {string: m}", r"unknown key 'models.string'.*Did you mean 'strong'"),
        ("routers: {mff: {}}", r"unknown router 'routers.mff'.*Did you mean 'mf'"),
        ("fallback: {attempts: 0}", "'fallback.attempts'.*greater than or equal to 1"),
        ("fallback: {enabled: maybe}", "'fallback.enabled'.*valid boolean"),
        ("models: {strong: {api_base: x}}", "'models.strong.model' is missing"),
        ("on_scoring_error: perhaps", "'on_scoring_error'.*'strong', 'weak' or 'raise'"),
        ("- a list", "must be a mapping"),
        ("a: [unclosed", "not readable YAML"),
    ],
)
def test_a_fault_is_named_with_its_path_and_the_nearest_name(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as raised:
        load_config(path, environment={})
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("threshold", ["1.5", "high", ".nan"])
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, threshold: str) -> None:
    with pytest.raises((ConfigError, InvalidThresholdError), match=r"a number in \[0, 1\]"):
        load_config(write(tmp_path, f"threshold: {threshold}"), environment={})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'nowhere.yaml' does not exist"):
        load_config("nowhere.yaml")


def test_a_key_never_shows_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(RouteLLMError) as raised:
        load_config(write(tmp_path, "models: {strong: {model: m, api_key: [sk-secret]}}"), environment={})
    assert "sk-secret" not in str(raised.value)


def test_the_controller_is_built_as_configured(tmp_path: Path) -> None:
    path = write(tmp_path, "models: {strong: big, weak: small}\nrouter: random\nthreshold: 0\nrandom: {seed: 3}")
    controller = build_controller(load_config(path, environment={}), backend=FakeBackend())
    assert controller.route("x") == "big"
    assert controller.routers["random"].fingerprint == "random:order:3"
    assert build_controller(RouteLLMConfig(), backend=FakeBackend()).decide("hi").router == "mf"
