"""Saved, copied and pickled: programs keep their routing, routers are shared, weights and keys stay out of files."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import dspy
import pytest
from dspy_routellm import Routed, RouteLLM, RoutingEngine
from dspy_routellm_adapter_replies import adapter_reply  # loaded by conftest

from routellm_core import ModelSettings, load_router, register_router
from routellm_core.backends.resilience import ResiliencePolicy
from routellm_core.routers import registry
from routellm_core.routers.random import RandomRouter
from routellm_core.testing.local_models import LocalModelServer

MakeLM = Callable[..., RouteLLM]
KEY = "sk-very-secret"


@pytest.fixture
def mf(make_lm: MakeLM) -> RouteLLM:
    settings = {
        "model": "openai/small",
        "extra": {"top_p": 0.5},
        "input_cost_per_token": 1.0,
        "output_cost_per_token": 2.0,
    }
    return make_lm(
        router="mf", threshold=0.05, weak=ModelSettings.model_validate(settings), api_key=KEY,
        route_fields=["question"],
        no_prompt_tier="weak", temperature=0.4, seed=3, resilience=ResiliencePolicy(3, 0.1, 0.2, fallback=False),
    )  # fmt: skip


def same(first: RouteLLM, second: RouteLLM) -> None:
    assert second.model == first.model
    assert second.kwargs == first.kwargs
    assert (second.cache, second.num_retries) == (first.cache, first.num_retries)
    one, other = first.routing, second.routing
    assert vars(other.resilience) == vars(one.resilience)
    assert other.models["weak"].price == one.models["weak"].price
    text = "Prove that there are infinitely many primes."
    assert other.select(text).score == one.select(text).score


@pytest.fixture
def program(mf: RouteLLM) -> dspy.Predict:
    predict = dspy.Predict("question -> answer")
    predict.demos = [dspy.Example(question="a", answer="b")]
    predict.set_lm(mf)
    return predict


@pytest.mark.parametrize("ending", ["json", "pkl"])
def test_plain_saving(program: dspy.Predict, mf: RouteLLM, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"program.{ending}"
    program.save(file)
    assert KEY.encode() not in file.read_bytes()
    loaded = dspy.Predict("question -> answer")
    with pytest.raises(ValueError, match="allow_unsafe_lm_state=True"):
        loaded.load(file, allow_pickle=True)
    loaded.load(file, allow_pickle=True, allow_unsafe_lm_state=True)
    assert isinstance(loaded.lm, RouteLLM)
    same(mf, loaded.lm)
    assert loaded.demos[0]["question"] == "a"
    assert loaded.lm.weak_lm.kwargs["api_base"] == mf.weak_lm.kwargs["api_base"]


def test_a_loaded_program_takes_its_key_from_the_environment(
    program: dspy.Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalModelServer(api_key="from-environment", reply=adapter_reply) as server:
        program.set_lm(
            RouteLLM("random", 0.0, strong="openai/big", weak="openai/small", api_base=server.base_url, api_key="wrong")
        )
        program.save(tmp_path / "program.json")
        loaded = dspy.Predict("question -> answer")
        loaded.load(tmp_path / "program.json", allow_unsafe_lm_state=True)
        monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
        assert loaded(question="hi?").answer == "big answers: hi?"


def test_predictors_that_are_loaded_share_one_router(mf: RouteLLM, tmp_path: Path) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("question -> answer")
            self.second = dspy.Predict("question -> answer")

    program = Two()
    program.set_lm(mf)
    program.save(tmp_path / "two.json")
    loaded = Two()
    loaded.load(tmp_path / "two.json", allow_unsafe_lm_state=True)
    assert loaded.first.lm.routing.router is loaded.second.lm.routing.router


def test_whole_programs(program: dspy.Predict, mf: RouteLLM, tmp_path: Path) -> None:
    mf.decide("load the weights")
    program.save(tmp_path / "whole", save_program=True)
    content = (tmp_path / "whole" / "program.pkl").read_bytes()
    assert KEY.encode() not in content
    assert len(content) < 50_000  # no weights
    loaded = dspy.load(str(tmp_path / "whole"), allow_pickle=True)
    same(mf, loaded.lm)


def test_a_whole_routed_program_runs_in_another_process(tmp_path: Path, local_models: LocalModelServer) -> None:
    program = Routed(
        dspy.Predict("question -> answer"), "openai/big", "openai/small",
        router="mf", threshold=0.0, api_base=local_models.base_url, api_key=KEY,
    )  # fmt: skip
    program.save(tmp_path / "routed", save_program=True)
    code = (
        "import dspy, sys; program = dspy.load(sys.argv[1], allow_pickle=True); "
        "print(program.decide(question='hi?').model, program(question='hi?').answer)"
    )
    environment = {"OPENAI_API_KEY": "any", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DSPY_CACHEDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "routed")],
        env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "openai/big big answers: hi?\n", done.stderr


def test_deepcopy_shares_router_and_engines(program: dspy.Predict, mf: RouteLLM) -> None:
    copied = program.deepcopy()
    assert copied.lm is not mf
    assert copied.lm.routing is mf.routing
    assert copy.deepcopy(mf.engine) is mf.engine
    routed = Routed(dspy.Predict("question -> answer"), mf.strong_lm, mf.weak_lm, router="mf", threshold=0.1)
    assert routed.deepcopy().routing is routed.routing
    assert routed.reset_copy().strong_lm is mf.strong_lm


def test_pickled_lms_reload_their_router(mf: RouteLLM) -> None:
    mf.decide("load the weights")
    for dumped in (pickle.dumps(mf), cloudpickle.dumps(mf)):
        assert KEY.encode() not in dumped
        assert len(dumped) < 50_000
        same(mf, pickle.loads(dumped))


def test_an_engine_can_be_saved_under_a_plain_lm(mf: RouteLLM) -> None:
    lm = dspy.LM("routellm/mine", engine=RoutingEngine(mf.routing))
    loaded = dspy.BaseLM.load_state(lm.dump_state(), allow_custom_lm_class=True)
    assert loaded.engine.routing.threshold == mf.threshold


class Biased(RandomRouter):
    """A router of one's own."""


def text_of(_: object) -> str:
    return "always this"


def test_own_routers_and_extractors_are_saved_by_their_import_path(
    make_lm: MakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    register_router("biased", Biased)
    lm = make_lm(router=load_router("biased", {"seed": 4, "by": "prompt"}), extract=text_of)
    monkeypatch.setattr(registry, "_registered", {})  # as in a process that registers nothing
    loaded = RouteLLM.load_state(lm.dump_state(), allow_custom_lm_class=True)
    assert type(loaded.routing.router).__name__ == "Biased"
    assert loaded.routing.extract is text_of
    assert loaded.model == lm.model


def test_what_cannot_be_saved_says_so(make_lm: MakeLM) -> None:
    with pytest.raises(TypeError, match="extract=.* cannot be saved.*Define it at the top of a module"):
        make_lm(router="random", extract=lambda _: None).dump_state()
    with pytest.raises(TypeError, match=r"the router 'fixed' cannot be saved as JSON.*load_router\(name, options\)"):
        make_lm().dump_state()
    with pytest.raises(ValueError, match="allow_unsafe_lm_state"):
        RouteLLM.load_state({})
