import json

import numpy as np
import pytest

from routellm_core.errors import ConfigError, UnsupportedPromptError
from routellm_core.rows.labelled import MixedRows, PairRows, PreferenceRows, QualityRows, load_rows, pair_rows
from routellm_core.rows.sources import RowSource
from routellm_core.training.checks import check_pair_rows, check_rows, refuse_leakage


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
        (battle(weight=-1), "weight must be positive"),
        (battle(weight=0), "weight must be positive"),
        (battle(weight=float("inf")), "weight must be a number"),
        (battle(prompt=[]), "messages is empty"),
        (battle(prompt="  "), "prompt is empty"),
    ],
)
def test_nonsense_is_refused_with_its_row(tmp_path, row, message):
    with pytest.raises((ConfigError, UnsupportedPromptError), match=f"line 2: .*{message}"):
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


TURNS = [
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "The Rhine."},
    {"role": "user", "content": "And a lake?"},
    {"role": "assistant", "content": "Constance."},
]


def test_a_battles_conversation_is_routed_on_its_judged_turn(tmp_path):
    arena = {"model_a": "big", "model_b": "small", "conversation_a": TURNS, "conversation_b": TURNS}
    rows = [
        {**arena, "winner": "tie (bothbad)", "turn": 2},
        {**arena, "winner": "model_b", "turn": 1},
        {**arena, "winner": "small"},
    ]
    read = load_rows([write(tmp_path, rows)])
    assert read.prompts == ("And a lake?", "Name a river.", "And a lake?")
    np.testing.assert_array_equal(read.outcome, [0.5, 0.0, 0.0])


def test_lmsys_csv_with_turns_as_json_and_one_hot_winners(tmp_path):
    (tmp_path / "train.csv").write_text(
        "id,model_a,model_b,prompt,winner_model_a,winner_model_b,winner_tie\n"
        '1,big,small,"[""Hi"",""Why?""]",1,0,0\n'
        '2,big,small,"[""How?"",null]",0,0,1\n'
    )
    rows = load_rows([tmp_path / "train.csv"])
    assert rows.prompts == ("Why?", "How?")
    np.testing.assert_array_equal(rows.outcome, [1.0, 0.5])
    (tmp_path / "train.csv").write_text(
        "model_a,model_b,prompt,winner_model_a,winner_model_b,winner_tie\nbig,small,Hi,0,0,0\n"
    )
    with pytest.raises(ConfigError, match="line 2: of winner_model_a.*one must be 1"):
        load_rows([tmp_path / "train.csv"])


def test_a_prompt_that_is_json_stays_one_among_texts(tmp_path):
    rows = load_rows([write(tmp_path, [battle('["b", "a"]'), battle("Sort this: b a")])])
    assert rows.prompts[0] == '["b", "a"]'
    turns = load_rows([write(tmp_path, [battle(["Hi", "Why?"]), battle("How?")])])
    assert turns.prompts == ("Why?", "How?")


def test_sources_have_weights(tmp_path, monkeypatch):
    votes = write(tmp_path, [battle("a"), battle("b", weight=3)], "votes.jsonl")
    judged = write(tmp_path, [battle("c"), battle("d", weight=4)], "judged.jsonl")
    rows = load_rows([votes, f"weight=0.5:{judged}"])
    np.testing.assert_array_equal(rows.weights, [1.0, 3.0, 0.5, 2.0])
    assert RowSource.parse(f"weight=0.5:{judged}").label == "weight=0.5:judged.jsonl"
    monkeypatch.chdir(tmp_path)
    strange = write(tmp_path, [battle("e")], "weight=2:x.jsonl")
    np.testing.assert_array_equal(load_rows([f"./{strange.name}"]).weights, [1.0])


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "half", ""])
def test_a_source_weight_that_is_no_positive_number_is_refused(weight):
    with pytest.raises(ConfigError, match="must be a positive number"):
        load_rows([f"weight={weight}:rows.jsonl"])


def test_kinds_may_be_mixed_for_one_pair(tmp_path):
    votes = write(tmp_path, [battle("a"), battle("b", "tie"), battle("z", model_b="other")], "votes.jsonl")
    judged = write(tmp_path, [{"prompt": "c", "strong": 0, "weak": 1, "licence": "MIT"}], "judged.jsonl")
    golden = write(
        tmp_path, [{"prompt": "d", "model": m, "score": s} for m, s in (("big", 1), ("small", 0))], "gold.jsonl"
    )
    rows = load_rows([f"weight=2:{votes}", judged, f"weight=0.25:{golden}"])
    assert isinstance(rows, MixedRows)
    assert len(rows) == 6
    pairs = pair_rows(rows, strong_model="big", weak_model="small")
    assert pairs.prompts == ("a", "b", "c", "d")
    np.testing.assert_array_equal(pairs.gain, [1.0, 0.0, -1.0, 1.0])
    np.testing.assert_array_equal(pairs.weights, [2.0, 2.0, 1.0, 0.25])
    assert pairs.licences == ("MIT",)
    report = check_rows(rows)
    assert (report.rows, report.prompts) == (6, 5)
    assert report.models == {"big": 4, "small": 3, "other": 1}


def test_mixed_units_are_refused(tmp_path):
    votes = write(tmp_path, [battle("a")], "votes.jsonl")
    grades = write(tmp_path, [{"prompt": "c", "strong": 9, "weak": 7}], "grades.jsonl")
    with pytest.raises(ConfigError, match="different units: values reach 1 in one and 9 in another"):
        pair_rows(load_rows([votes, grades]), strong_model="big", weak_model="small")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set that the ``datasets`` library finds under its id: it takes a folder of that name for it."""
    pytest.importorskip("datasets", reason="needs the extra [hub]")
    data = tmp_path / "me" / "votes" / "data"
    data.mkdir(parents=True)
    write(data, [battle("a"), battle("b")], "train-00000.jsonl")
    write(data, [battle("c")], "test-00000.jsonl")
    monkeypatch.chdir(tmp_path)
    return data


def test_a_data_set_on_the_hub_and_its_splits(hub):
    rows = load_rows(["hf:me/votes"])
    assert rows.prompts == ("a", "b")
    assert rows.places[0] == "hf:me/votes, row 1"
    assert load_rows(["weight=2:hf:me/votes:test"]).prompts == ("c",)
    assert RowSource.parse("weight=2:hf:me/votes:test").label == "weight=2:hf:me/votes:test"
    with pytest.raises(ConfigError, match="has no split 'dev', only train, test; .* such as hf:me/votes:train"):
        load_rows(["hf:me/votes:dev"])
    assert load_rows([hub]).prompts == ("a", "b")  # a folder, by its train split


def test_a_data_set_that_is_nowhere_is_said(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="needs the extra [hub]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="data set 'hf:someone/absent' could not be loaded"):
        load_rows(["hf:someone/absent"])
    for name in ("hf:absent", "hf:a/b/c", "hf:", "hf:a/b:c:d:e"):
        with pytest.raises(ConfigError, match="give hf:owner/name"):
            load_rows([name])
