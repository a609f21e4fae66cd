import json

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage
from routellm_core.training.rows import PairRows, PreferenceRows, QualityRows, load_rows, pair_rows


def write(folder, rows, name="rows.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def battle(prompt="Why?", winner="model_a", **changes):
    return {"prompt": prompt, "model_a": "big", "model_b": "small", "winner": winner, **changes}


def many(strong, weak, prompts=None):
    n = len(strong)
    return PairRows(
        prompts=tuple(prompts or (f"question {row}" for row in range(n))),
        weights=np.ones(n),
        places=tuple(f"rows.jsonl, line {row + 1}" for row in range(n)),
        licences=(),
        strong=np.asarray(strong, dtype=np.float64),
        weak=np.asarray(weak, dtype=np.float64),
    )


def test_strong_weak_rows(tmp_path):
    file = write(
        tmp_path, [{"prompt": "a", "strong": 1, "weak": True, "weight": 2}, {"prompt": "b", "strong": 1, "weak": 0}]
    )
    rows = load_rows([file])
    assert isinstance(rows, PairRows)
    np.testing.assert_array_equal(rows.gain, [0.0, 1.0])
    np.testing.assert_array_equal(rows.wins, [False, True])
    np.testing.assert_array_equal(rows.weights, [2.0, 1.0])


def test_a_csv_with_truth_values(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,strong,weak,licence\nWhy?,True,False,MIT\nHow?,0.5,0.25,\n")
    rows = load_rows([tmp_path / "rows.csv"])
    np.testing.assert_array_equal(rows.gain, [1.0, 0.25])
    assert rows.licences == ("MIT",)


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas", reason="needs the extra [train]")
    pandas.DataFrame({"prompt": ["a"], "model": ["m"], "score": [0.5]}).to_parquet(tmp_path / "rows.parquet")
    rows = load_rows([tmp_path / "rows.parquet"])
    assert isinstance(rows, QualityRows)
    assert rows.models == ("m",)


def test_battles_become_pair_rows(tmp_path):
    swapped = {"prompt": "c", "model_a": "small", "model_b": "big", "winner": "model_b"}
    file = write(tmp_path, [battle("a"), battle("b", "tie"), swapped, battle("d", model_b="other")])
    rows = load_rows([file])
    assert isinstance(rows, PreferenceRows)
    pairs = pair_rows(rows, strong_model="big", weak_model="small")
    assert pairs.prompts == ("a", "b", "c")
    np.testing.assert_array_equal(pairs.strong, [1.0, 0.5, 1.0])
    np.testing.assert_array_equal(pairs.weak, [0.0, 0.5, 0.0])


def test_quality_rows_become_pair_rows_where_both_models_answered(tmp_path):
    answers = [("a", "big", 1.0), ("a", "small", 0.0), ("a", "small", 0.5), ("b", "big", 1.0), ("c", "other", 0.0)]
    rows = load_rows([write(tmp_path, [{"prompt": p, "model": m, "score": s} for p, m, s in answers])])
    pairs = pair_rows(rows, strong_model="big", weak_model="small")
    assert pairs.prompts == ("a",)
    np.testing.assert_array_equal(pairs.gain, [0.75])


def test_an_unknown_pair_names_the_models(tmp_path):
    rows = load_rows([write(tmp_path, [battle()])])
    with pytest.raises(ConfigError, match="big, small"):
        pair_rows(rows, strong_model="bigger", weak_model="small")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (battle(winner="both"), "winner must be one of"),
        (battle(model_b="big"), "are both 'big'"),
        (battle(model_a=" "), "must name a model"),
        (battle(weight=-1), "must not be negative"),
        (battle(prompt="  "), "prompt is empty"),
    ],
)
def test_nonsense_is_refused_with_its_row(tmp_path, row, message):
    with pytest.raises(ConfigError, match=f"line 2: .*{message}"):
        load_rows([write(tmp_path, [battle(), row])])


@pytest.mark.parametrize("value", ["good", None, float("nan")])
def test_a_score_that_is_no_number_is_refused(tmp_path, value):
    file = write(tmp_path, [{"prompt": "a", "strong": 1, "weak": 0}, {"prompt": "a", "strong": value, "weak": 0}])
    with pytest.raises(ConfigError, match="line 2: strong must be a number"):
        load_rows([file])


def test_rows_of_no_kind_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot tell what kind"):
        load_rows([write(tmp_path, [{"prompt": "a", "score": 1}])])
    with pytest.raises(ConfigError, match="no rows"):
        load_rows([write(tmp_path, [])])


def test_the_report_counts_and_warns():
    report = check_rows(many([1, 1, 0], [0, 1, 1], prompts=["Why?", "why? ", "How?"]))
    assert (report.rows, report.prompts) == (3, 2)
    assert report.labels == {"strong better": 1, "equal": 1, "weak better": 1}
    assert "1 rows repeat" in report.warnings[0]


def test_rare_models_are_named(tmp_path):
    rows = load_rows([write(tmp_path, [battle(str(row)) for row in range(25)] + [battle(model_b="rare")])])
    assert any("rare" in warning for warning in check_rows(rows).warnings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (many([1] * 10, [0] * 10), "10 rows for the pair"),
        (many([1] * 60, [0] * 60), "strictly wins on 60 of 60"),
        (many([1] * 60, [1] * 60), "strictly wins on 0 of 60"),
    ],
)
def test_rows_that_teach_nothing_are_refused(rows, message):
    with pytest.raises(ConfigError, match=message):
        check_pair_rows(rows)


def test_a_pair_the_wrong_way_round_is_noticed():
    warnings = check_pair_rows(many([0] * 40 + [1] * 20, [1] * 40 + [0] * 20))
    assert any("right way round" in warning for warning in warnings)


def test_leakage_is_refused_with_the_row():
    train, test = many([1], [0], prompts=["Why  so?"]), many([1, 1], [0, 0], prompts=["new", "why so?"])
    with pytest.raises(ConfigError, match="1 of 2 test prompts.*line 2"):
        refuse_leakage(train, test)
