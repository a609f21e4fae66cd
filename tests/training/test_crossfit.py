"""Folds that never split a group, and predictions by fits that did not see a row."""

import numpy as np
import pytest

from routellm_core.errors import ConfigError
from routellm_core.rows.labelled import PairRows, load_rows, pair_rows
from routellm_core.training.comparisons import comparisons_of
from routellm_core.training.crossfit import cross_fit, group_numbers, grouped_folds


def test_rows_share_a_group_by_name_or_by_text_or_through_a_third():
    prompts = ["Why?", " why? ", "How?", "Where?", "When?", "Who?"]
    groups = group_numbers(prompts, ["", "a", "a", "b", "", "b"])
    assert groups[0] == groups[1] == groups[2]  # the first by its text, the third by its group
    assert groups[3] == groups[5] != groups[4]
    assert len(set(groups.tolist())) == 3
    assert len(set(group_numbers(["x", "y"], ["", ""]).tolist())) == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_group_is_never_split_and_folds_are_even(seed):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 60, 400)
    folds = grouped_folds(groups, seed=seed)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in np.unique(groups))
    assert np.bincount(folds).min() > 40
    assert set(folds.tolist()) == set(range(8))
    assert (grouped_folds(groups, seed=seed + 1) != folds).any()
    assert (grouped_folds(groups, seed=seed) == folds).all()


def test_few_groups_are_refused():
    with pytest.raises(ConfigError, match="form 9 groups"):
        grouped_folds(np.arange(90) % 9)


def test_groups_are_read_and_reach_the_comparisons(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": "a", "strong": 1, "weak": 0, "group": "g"}\n{"prompt": "b", "strong": 1, "weak": 1, "group": "g"}\n'
        '{"prompt": "c", "strong": 1, "weak": 0}\n'
    )
    rows = load_rows([file])
    assert rows.groups == ("g", "g", "")
    group = comparisons_of(rows, strong_model="s", weak_model="w").group
    assert group[0] == group[1] != group[2]
    file.write_text(
        "".join(
            f'{{"prompt": "{prompt}", "model": "{model}", "score": {score}, "group": "{prompt in "ab"}"}}\n'
            for prompt in "abc"
            for model, score in (("s", 1), ("w", 0))
        )
    )
    pairs = pair_rows(load_rows([file]), strong_model="s", weak_model="w")
    assert pairs.groups == ("True", "True", "False")


def test_predictions_come_from_fits_without_the_row():
    folds = np.arange(60) % 6
    crossed = cross_fit(lambda kept: np.full(60, float(kept.sum())), folds)
    np.testing.assert_array_equal(crossed.held_out, 50.0)
    assert np.isnan(crossed.refitted[folds, np.arange(60)]).all()
    assert np.nanmax(crossed.refitted) == np.nanmin(crossed.refitted) == 40.0

    def seen(kept):
        return np.where(kept, np.nan, kept.sum())  # nothing is said of rows that were fitted

    assert np.isfinite(cross_fit(seen, folds).held_out).all()


def test_weights_of_a_group_do_not_leak_through_copies():
    rows = PairRows(
        prompts=("Why?", "why? ", *(f"p{row}" for row in range(28))),
        weights=np.ones(30),
        places=tuple(map(str, range(30))),
        licences=(),
        strong=np.ones(30),
        weak=np.zeros(30),
    )
    folds = grouped_folds(comparisons_of(rows, strong_model="s", weak_model="w").group)
    assert folds[0] == folds[1]
