import functools

import jax
import numpy as np
import pytest

from tests.decode.test_scoring import MASK, alone, texts
from tests.models.tiny_text import V, tiny
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.probing import embed, fill_masks, label_logits, replaced
from tfm_jax.models import albert, bert, electra, gpt


def apply(model, params, row, method):
    batch = TextBatch(row[None], np.ones_like(row)[None])
    whole = jax.jit(functools.partial(model.apply, train=False, method=method))
    return whole({"params": params}, batch)[0]


def test_masks_are_filled_by_the_softmax_over_all_words():
    model, params = tiny(bert)
    rows = texts((6, 3, 12))
    for row, columns in zip(rows, ([2], [0, 1], [3, 4, 11]), strict=True):
        row[columns] = MASK
    every = fill_masks(model, params, rows, MASK, top=V)
    three = fill_masks(model, params, rows, MASK, top=3)
    for row, all_of, best in zip(rows, every, three, strict=True):
        assert all_of.places.tolist() == np.flatnonzero(row == MASK).tolist()
        np.testing.assert_allclose(all_of.probabilities.sum(-1), 1.0, rtol=1e-5)
        logits = alone(model, params, row).lm_logits[0, all_of.places]
        wanted = np.asarray(jax.nn.softmax(logits))
        for mask in range(len(wanted)):
            order = np.argsort(-wanted[mask])
            np.testing.assert_array_equal(best.tokens[mask], order[:3])
            np.testing.assert_allclose(
                all_of.probabilities[mask], wanted[mask][order], atol=1e-6
            )
    with pytest.raises(ValueError, match="text 1 has no mask"):
        fill_masks(model, params, [rows[0], texts((3,))[0]], MASK)


@pytest.mark.parametrize("module", [albert, gpt])
def test_labels_do_not_depend_on_the_rows_beside(module):
    model, params = tiny(module, head="classify", labels=3)
    rows = texts()
    found = label_logits(model, params, rows, batch_tokens=32)
    assert found.shape == (len(rows), 3)
    for row, logits in zip(rows, found, strict=True):
        whole = alone(model, params, row)
        wanted = getattr(whole, "labels", whole)[0]
        np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_vectors_are_pooled_over_real_tokens_alone():
    model, params = tiny(gpt)
    rows = texts((5, 12))
    pooled = {p: embed(model, params, rows, pool=p) for p in ("mean", "first", "last")}
    for number, row in enumerate(rows):
        states = apply(model, params, row, "encode")
        wanted = {"mean": states.mean(0), "first": states[0], "last": states[-1]}
        for pool, vectors in pooled.items():
            assert vectors.dtype == np.float32 and vectors.shape == (2, 8)
            np.testing.assert_allclose(vectors[number], wanted[pool], atol=1e-5)
    with pytest.raises(ValueError, match=r"pool='max'; choose from \(mean, first"):
        embed(model, params, rows, pool="max")


def test_doubts_are_those_of_the_discriminator():
    small = dict(embedding_width=8, generator_width=4, generator_heads=1)
    small |= dict(generator_ffn_width=8, generator_depth=1)
    model, params = tiny(electra, **small)
    rows = texts((5, 12))
    for row, doubts in zip(rows, replaced(model, params, rows), strict=True):
        scores = apply(model, params, row, "discriminate")
        assert doubts.shape == row.shape
        np.testing.assert_allclose(doubts, jax.nn.sigmoid(scores), atol=1e-5)
