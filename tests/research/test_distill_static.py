import numpy as np
from tokenizers import Tokenizer, models

from research.distill_static import principal_table, quantise
from research.static_asset import token_counts
from routellm_core.embeddings.content import COUNT_NAMES


def test_the_first_component_carries_the_variance():
    vectors = np.zeros((4, 3), dtype=np.float32)
    vectors[:, 1] = [3.0, -3.0, 1.0, -1.0]
    table = principal_table(vectors, dimension=1)
    expected = np.array([3.0, -3.0, 1.0, -1.0]) * np.log([2, 3, 4, 5])  # log rank weight, sign fixed
    np.testing.assert_allclose(table[:, 0], expected, rtol=1e-6)


def test_quantisation_error_is_below_half_a_step():
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    stored = quantise(table)
    assert stored["table"].dtype == np.int8
    restored = stored["table"] * stored["scale"][:, None]
    assert (np.abs(restored - table) <= stored["scale"][:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero():
    stored = quantise(np.zeros((1, 4), dtype=np.float32))
    np.testing.assert_array_equal(stored["table"], 0)


def test_a_token_counts_for_its_characters():
    vocabulary = {"[UNK]": 0, "prime": 1, "##ing": 2, "12": 3, "?": 4, "数": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    counts = token_counts(tokenizer)
    column = {name: place for place, name in enumerate(COUNT_NAMES)}
    assert (counts[:, column["token"]] == 1).all()
    assert counts[1, [column["letter"], column["word"], column["long_word"]]].tolist() == [5, 1, 0]
    assert counts[2, [column["letter"], column["word"]]].tolist() == [3, 0]
    assert counts[3, [column["digit"], column["number"]]].tolist() == [2, 1]
    assert counts[4, column["question"]] == 1
    assert counts[5, [column["ideograph"], column["word"]]].tolist() == [1, 0]
