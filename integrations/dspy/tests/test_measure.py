"""Routing tuned by the user's own metric: measured on both models, calibrated, used, and never flattered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import dspy_routellm_tasks as tasks  # loaded by conftest
import pytest
from dspy_routellm import MeasuredExample, Measurement, Routed, RouteLLM, measure

from routellm_core import ModelPair, load_router
from routellm_core.errors import CalibrationError, ConfigError
from routellm_core.rows.labelled import load_rows
from routellm_core.testing import FixedScoreRouter
from routellm_core.testing.local_models import LocalModelServer

MakeLM = Callable[..., RouteLLM]

PRICES = {
    "strong": {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-4},
    "weak": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5},
}


@pytest.fixture
def priced(make_lm: MakeLM) -> RouteLLM:
    return make_lm({"model": "openai/big", **PRICES["strong"]}, {"model": "openai/small", **PRICES["weak"]})


@pytest.fixture
def measured(priced: RouteLLM) -> Measurement:
    return measure(tasks.Solver(), tasks.examples(40), tasks.exact, lm=priced, num_threads=4)


def test_both_models_run_and_each_example_is_labelled(measured: Measurement) -> None:
    assert (measured.strong_quality, measured.weak_quality, measured.oracle_quality) == (1.0, 0.5, 1.0)
    assert measured.rows[0] == measured.rows[0]
    assert (measured.rows[0].prompt, measured.rows[0].score) == ("What is 3 + 5?", 0.1)
    assert [row.strong_wins for row in measured.rows] == ["*" in row.prompt for row in measured.rows]
    assert measured.failures == {"strong": 0, "weak": 0}
    assert all(row.strong_dollars > row.weak_dollars > 0 for row in measured.rows)


def test_quality_target_finds_the_threshold_that_keeps_the_metric(measured: Measurement, priced: RouteLLM) -> None:
    result = measured.calibrate(quality=0.8, level=0.9)
    assert 0.1 < result.threshold.value <= 0.9
    assert result.share.value == 0.5
    assert result.quality.value == 1.0
    assert result.cost.value < measured.calibrate(strong_share=1.0).cost.value
    routed = priced.copy(threshold=result.threshold.value)
    evaluate = dspy.Evaluate(devset=tasks.examples(20), metric=tasks.exact, num_threads=2, display_progress=False)
    with dspy.context(lm=routed):
        assert evaluate(tasks.Solver()).score == 100.0


def test_share_and_cost_targets_and_the_curve(measured: Measurement) -> None:
    assert measured.calibrate(strong_share=0.5).share.value == 0.5
    everything = measured.calibrate(strong_share=1.0).cost.value
    assert measured.calibrate(max_cost=0.8 * everything, level=0.5).cost.value <= 0.8 * everything
    curve = measured.curve()
    assert [point.share.value for point in curve] == [0.0, 0.5, 1.0]  # two different scores
    assert [point.quality.value for point in curve] == [0.5, 1.0, 1.0]
    assert curve[0].cost.value < curve[1].cost.value < curve[2].cost.value
    assert measured.quality_at(0.5) == 1.0
    assert 0.1 < measured.best() <= 0.9
    assert measured.best(tolerance=0.5) > 0.9


def test_a_calibration_is_saved_and_used(measured: Measurement, make_lm: MakeLM, tmp_path: Path) -> None:
    result = measured.calibrate(quality=0.8, level=0.9)
    measured.calibration(result, data="forty sums").save(tmp_path / "sums.json")
    lm = make_lm(threshold=None, calibration=tmp_path / "sums.json")
    assert lm.threshold == result.threshold.value
    by_share = Routed(
        tasks.Solver(),
        lm.strong_lm,
        lm.weak_lm,
        router=lm.routing.router,
        threshold="50%",
        calibration=tmp_path / "sums.json",
    )
    assert by_share.decide(question="6 * 7").tier == "strong"
    assert by_share.decide(question="6 + 7").tier == "weak"
    bare = measured.calibration()
    with pytest.raises(ConfigError, match="holds none"):
        make_lm(threshold=None, calibration=bare)


def test_a_routed_program_is_measured_by_its_own_parts(priced: RouteLLM) -> None:
    routed = Routed(tasks.Solver(), priced.strong_lm, priced.weak_lm, router=priced.routing.router, threshold=0.5)
    measured = measure(routed, tasks.examples(4), tasks.exact)
    assert measured.weak_quality == 0.5
    routed.threshold = measured.best()
    assert all(routed(**example.inputs()).answer == example.answer for example in tasks.examples(4))
    with pytest.raises(ConfigError, match="router cannot be given beside a Routed"):
        measure(routed, tasks.examples(4), tasks.exact, router="mf")


def test_models_by_name_with_the_shipped_router(local_models: LocalModelServer) -> None:
    lms = [
        dspy.LM(f"openai/{name}", api_base=local_models.base_url, api_key="k", engine="litellm")
        for name in ("big", "small")
    ]
    measured = measure(tasks.Solver(), tasks.examples(6), tasks.exact, strong_lm=lms[0], weak_lm=lms[1], router="mf")
    assert measured.pair == ModelPair("openai/big", "openai/small")
    assert len({row.score for row in measured.rows}) > 3
    assert lms[0].history == []  # its copies kept the calls
    assert measured.costs is None
    with pytest.raises(CalibrationError, match="what the runs cost is not known"):
        measured.calibrate(max_cost=1.0)


def test_a_second_measurement_comes_from_the_cache_and_costs_are_known_all_the_same(
    priced: RouteLLM, local_models: LocalModelServer
) -> None:
    def run() -> Measurement:
        return measure(tasks.Solver(), tasks.examples(4), tasks.exact, lm=priced)

    first, calls = run(), len(local_models.requests)
    assert run().rows == first.rows
    assert len(local_models.requests) == calls


def test_failures_count_as_the_failure_score(make_lm: MakeLM) -> None:
    def picky(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
        if example.answer == 8:
            raise RuntimeError("cannot judge")
        return dspy.Prediction(score=float(example.answer == prediction.answer))

    lm = make_lm(weak="openai/fail-400")
    measured = measure(tasks.Solver(), tasks.examples(4), picky, lm=lm, failure_score=-1.0)
    assert measured.failures == {"strong": 1, "weak": 4}
    assert measured.weak_quality == -1.0
    assert [row.strong_quality for row in measured.rows] == [-1.0, 1.0, 1.0, 1.0]


def test_rows_are_written_for_training(measured: Measurement, tmp_path: Path) -> None:
    measured.save_rows(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert rows[1]["prompt"] == "What is 4 * 6?"
    assert (rows[1]["strong"], rows[1]["weak"], rows[1]["router_score"]) == (1.0, 0.0, 0.9)
    assert len(load_rows([tmp_path / "rows.jsonl"])) == 40
    with pytest.raises(ConfigError, match="cannot be written"):
        measured.save_rows(tmp_path / "nowhere" / "rows.jsonl")


def test_an_adapted_router_learns_from_the_metric(priced: RouteLLM, make_lm: MakeLM, tmp_path: Path) -> None:
    devset = tasks.examples(120)
    measured = measure(tasks.Solver(), devset, tasks.exact, lm=priced, num_threads=4)
    shipped = replace(measured, router=load_router("mf"))
    shipped = replace(
        shipped,
        rows=tuple(
            replace(row, score=float(score))
            for row, score in zip(measured.rows, shipped.router.score([r.prompt for r in measured.rows]), strict=True)
        ),
    )
    adapted = shipped.adapt(tmp_path / "sums")

    def ranked(measurement: Measurement) -> float:
        """Quality at half strong calls: 1.0 where every product and no sum goes to the strong model."""
        return next(point.quality.value for point in measurement.curve() if point.share.value >= 0.5)

    assert ranked(adapted) > ranked(shipped)
    assert ranked(adapted) > 0.9
    adapted.calibration(adapted.calibrate(strong_share=0.5)).save(tmp_path / "sums.json")
    router = load_router("mf", {"checkpoint_path": str(tmp_path / "sums")})
    lm = make_lm(router=router, threshold=None, calibration=tmp_path / "sums.json")
    assert lm.decide("What is 40 * 9?").tier == "strong"
    assert lm.decide("What is 40 + 9?").tier == "weak"


def test_adapting_takes_labels_of_both_kinds(tmp_path: Path) -> None:
    rows = tuple(MeasuredExample(f"prompt {n}", 0.5, 1.0, 1.0) for n in range(50))
    with pytest.raises(ConfigError):
        Measurement(FixedScoreRouter(), ModelPair("a", "b"), rows).adapt(tmp_path / "none")


def test_too_few_examples_say_how_many_it_takes() -> None:
    rows = tuple(MeasuredExample(f"p{n}", n / 10, 1.0, float(n % 2)) for n in range(10))
    measured = Measurement(FixedScoreRouter(), ModelPair("a", "b"), rows)
    with pytest.raises(CalibrationError, match="rows") as raised:
        measured.calibrate(quality=0.99)
    assert raised.value.rows_needed is None or raised.value.rows_needed > 10
    for targets in ({}, {"quality": 0.9, "strong_share": 0.5}):
        with pytest.raises(ConfigError, match="exactly one target"):
            measured.calibrate(**targets)


def test_bad_devsets_and_metrics_say_what_is_wrong(lm: RouteLLM) -> None:
    program, devset = tasks.Solver(), tasks.examples(2)

    def run(metric: Any = tasks.exact, devset: Any = devset, program: Any = program, **options: Any) -> None:
        measure(program, devset, metric, **{"lm": lm, **options})

    for options, message in (
        ({"devset": []}, "devset is empty"),
        ({"devset": [3]}, r"devset\[0\] must be a dspy\.Example"),
        ({"devset": [dspy.Example(question="x")]}, "mark them with"),
        ({"metric": None}, "metric must be a function"),
        ({"metric": lambda *_: "good"}, "the metric returned 'good'"),
        ({"metric": lambda *_: float("nan")}, "must be finite"),
        ({"program": "question -> answer"}, r"program must be a dspy\.Module"),
        ({"lm": None}, "give lm=RouteLLM"),
        ({"lm": lm.strong_lm}, "lm must be a dspy_routellm.RouteLLM"),
        ({"strong_lm": lm.strong_lm}, "strong_lm cannot be given beside a RouteLLM"),
        ({"devset": [dspy.Example(image=None).with_inputs("image")]}, "no text to route on"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(**options)
