import numpy as np
import pytest

from routellm_core.embeddings.surface import (
    SURFACE_NAMES,
    clipped_text,
    standardised_surface,
    surface_dimension,
    surface_features,
)

AWKWARD = [
    "",
    " ",
    "\n\n",
    "\x00",
    "\ud800 lone \udfff",
    "🙂" * 10,
    "中文问题？",
    "naïve Ωμέγα",
    "a" * 5000,
    "9" * 4001,
    "Q?\nA. 1\nB. 22\nC. 3",
]


def feature(text, name):
    return surface_features([text])[0, SURFACE_NAMES.index(name)]


def test_names_are_unique_and_match_the_columns():
    assert len(set(SURFACE_NAMES)) == len(SURFACE_NAMES) == surface_dimension()
    assert surface_features(["x"]).shape == (1, surface_dimension())


def test_an_empty_batch_has_no_rows():
    assert surface_features([]).shape == (0, surface_dimension())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log_chars", np.log1p(40) / 5),
        ("log_words", np.log1p(6)),  # Add two number and st Really
        ("log_numbers", np.log1p(3)),  # 1024, 3 and 5
        ("log_decimals", np.log1p(1)),
        ("log_long_numbers", np.log1p(1)),
        ("log_sentences", np.log1p(2)),  # "st." and "Really?"; the point of 3.5 ends none
        ("ends_with_question", 1.0),
        ("count_upper", np.log1p(2)),
        ("share_digit", 6 / 40),
        ("capitalised_share", 2 / 6),
        ("has_choices", 0.0),
    ],
)
def test_counts_by_hand(name, expected):
    text = "Add two number 1024, 3.5 and st. Really?"
    assert len(text) == 40
    assert feature(text, name) == pytest.approx(expected, rel=1e-6)


def test_choices_by_hand():
    text = "Which?\nA. one\nB. 22\nC. three"
    assert feature(text, "has_choices") == 1.0
    assert feature(text, "choices") == pytest.approx(3 / 5)
    assert feature(text, "log_stem_chars") == pytest.approx(np.log1p(7) / 5)  # "Which?" and its line break
    assert feature(text, "choice_share") == pytest.approx((len(text) - 7) / len(text))
    assert feature(text, "log_open_chars") == 0.0


def test_choices_in_brackets_count_and_a_single_letter_does_not():
    assert feature("Pick: (A) x (B) y (C) z", "has_choices") == 1.0
    assert feature("Plan A. is good", "has_choices") == 0.0


def test_cues_and_openings_by_hand():
    assert feature("If n is odd, prove it. Prove it again.", "cue_proof") == pytest.approx(np.log1p(2))
    assert feature("If n is odd", "cue_hypothesis") == pytest.approx(np.log1p(1))
    assert feature("What's up", "opens_what") == 1.0
    assert feature("Somewhat", "opens_what") == 0.0


def test_a_batch_equals_single_texts():
    batch = surface_features(AWKWARD)
    single = np.concatenate([surface_features([text]) for text in AWKWARD])
    np.testing.assert_array_equal(batch, single)


def test_every_text_gives_finite_features():
    assert np.isfinite(surface_features(AWKWARD)).all()
    standardised = standardised_surface(AWKWARD)
    assert np.isfinite(standardised).all()
    assert np.abs(standardised).max() <= 4.0


def test_a_megabyte_is_clipped_but_its_length_counts():
    assert len(clipped_text("x" * 1_000_000)) == 4001
    assert clipped_text("x" * 4000) == "x" * 4000
    assert feature("x" * 1_000_000, "log_chars") == pytest.approx(np.log1p(1_000_000) / 5)


def test_many_chunks_equal_one(monkeypatch):
    texts = [f"number {index}" for index in range(50)]
    whole = surface_features(texts)
    monkeypatch.setattr("routellm_core.embeddings.surface._BATCH_CHARS", 30)
    np.testing.assert_array_equal(surface_features(texts), whole)
