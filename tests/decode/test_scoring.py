import jax
import numpy as np
import pytest

from tests.models.tiny_text import V, run, tiny
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.rows import over_rows, power_of_two
from tfm_jax.decode.scoring import masked_log_probs, next_log_probs
from tfm_jax.models import bert, gpt

LENGTHS = (5, 12, 1, 12, 5, 1)  # few: each is compiled alone, too
MASK = V - 1


def texts(lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [rng.integers(1, MASK, n).astype(np.int32) for n in lengths]


def alone(model, params, row, types=None):
    """What the model returns for one row, without padding."""
    types = None if types is None else types[None]
    batch = TextBatch(row[None], np.ones_like(row)[None], types=types)
    return run(model, params, batch)


def test_a_score_is_the_sum_over_the_softmax_of_each_row_alone():
    model, params = tiny(gpt, windows=(0, 3))
    done = []
    found = next_log_probs(
        model, params, texts(), batch_tokens=32, on_batch=done.append
    )
    for row, log_probs in zip(texts(), found, strict=True):
        logits = np.asarray(alone(model, params, row)[0], np.float64)
        wanted = [
            logits[t, row[t + 1]] - np.log(np.exp(logits[t]).sum())
            for t in range(len(row) - 1)
        ]
        np.testing.assert_allclose(log_probs, wanted, atol=1e-5)
    assert sum(done) == len(LENGTHS) and len(done) == 2


def test_a_pseudo_score_masks_one_token_at_a_time():
    model, params = tiny(bert)
    rows = texts((6, 3, 12))
    types = [(np.arange(len(row)) > 2).astype(np.int32) for row in rows]
    asked = [np.array([1, 4]), np.array([], int), np.array([11])]
    found = masked_log_probs(model, params, rows, asked, MASK, types=types)
    assert [len(x) for x in found] == [2, 0, 1]
    for row, kinds, columns, log_probs in zip(rows, types, asked, found, strict=True):
        for column, log_prob in zip(columns, log_probs, strict=True):
            masked = row.copy()
            masked[column] = MASK
            logits = alone(model, params, masked, kinds).lm_logits[0, column]
            wanted = jax.nn.log_softmax(logits)[row[column]]
            np.testing.assert_allclose(log_prob, wanted, atol=1e-5)


def shape_of(model, params, batch):
    return np.zeros(len(batch.tokens)), batch.segments


def test_rows_are_padded_to_few_shapes_and_never_beyond_the_model():
    model, _ = tiny(gpt)
    rows = texts([1, 2, 3, 5, 6, 7, 8, 9, 10, 12] * 3)
    found = over_rows(shape_of, model, None, rows)
    shapes = {len(segments) for _, segments in found}
    assert shapes == {8, 12}, "a power of two, or all that the model takes"
    for row, (_, segments) in zip(rows, found, strict=True):
        assert segments.sum() == len(row) and segments[: len(row)].all()
    assert over_rows(shape_of, model, None, []) == []
    assert [power_of_two(n) for n in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]


def test_rows_that_the_model_cannot_take_are_named():
    model, params = tiny(gpt)
    with pytest.raises(ValueError, match="text 1 has 13 tokens.*takes 12"):
        next_log_probs(model, params, texts((5, 13)))
    with pytest.raises(ValueError, match="text 0 has no token"):
        next_log_probs(model, params, texts((0,)))
    endless, params = tiny(gpt, positions="alibi")
    assert len(next_log_probs(endless, params, texts((13,)))[0]) == 12
