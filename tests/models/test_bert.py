import jax
import numpy as np
import pytest

from tests.models.tiny_text import TINY, V, rows, run, sizes, tiny
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.layers.heads import HEADS
from tfm_jax.layers.layout import to_scanned
from tfm_jax.models import bert

# millions: encoder and pooler; with the heads of pre-training. Turc et al. 2019 and
# Devlin et al. 2019 release these, their papers round to 4.4, 11.3, 29.1, 41.7, 110
PUBLISHED = {
    "tiny": (4.39, 4.43),
    "mini": (11.17, 11.27),
    "small": (28.76, 29.06),
    "medium": (41.37, 41.67),
    "base": (109.48, 110.11),
    "large": (335.14, 336.23),
}


@pytest.mark.parametrize("size", bert.SIZES)
def test_parameters_are_as_many_as_published(size):
    cfg = bert.Config(vocab=30_522, **bert.SIZES[size], layout="scanned")
    found = sizes(bert.Bert(cfg))  # one layer is traced for all
    below = sum(n for k, n in found.items() if k.startswith(("encoder", "head/pooler")))
    millions = [round(n / 1e6, 2) for n in (below, sum(found.values()))]
    assert tuple(millions) == PUBLISHED[size]


SHAPES = {
    "masked_lm": (2, 5, V),
    "pair": (2, 2),
    "classify": (2, 3),
    "tag": (2, 5, 3),
    "span": (2, 2, 5),
    "states": (2, 5, 8),
}


@pytest.mark.parametrize("head", SHAPES)
def test_a_head_has_its_shape_and_no_parameters_of_others(head):
    model, params = tiny(bert, head=head, labels=3)
    assert run(model, params, rows([5, 3])).shape == SHAPES[head]
    names = {"masked_lm": {"lm"}} | {n: {"pooler", n} for n in ("pair", "classify")}
    names["states"] = set()
    assert set(params.get("head", {})) == names.get(head, {head})
    assert set(SHAPES) | {"pretraining"} == set(HEADS)


def test_words_are_scored_where_places_say():
    model, params = tiny(bert)
    batch = rows([5, 3])
    whole = run(model, params, batch)
    assert whole.lm_logits.shape == (2, 5, V) and whole.pair.shape == (2, 2)
    places = np.array([[4, 0, 2], [1, 1, 0]])
    some = run(model, params, MaskedBatch(*batch, target_positions=places))
    wanted = np.take_along_axis(np.asarray(whole.lm_logits), places[..., None], 1)
    np.testing.assert_allclose(some.lm_logits, wanted, atol=1e-6)
    np.testing.assert_array_equal(some.pair, whole.pair)


@pytest.mark.parametrize("positions", ["learned", "rotary", "t5"])
def test_a_document_is_the_same_alone_padded_and_packed(positions):
    model, params = tiny(bert, head="masked_lm", positions=positions)
    alone = run(model, params, rows([4]))[0]
    padded = run(model, params, rows([4, 3], 8))
    packed = run(model, params, rows([[4, 3], [3, 4]], 8))
    for found in (padded[0, :4], packed[0, :4], packed[1, 3:7]):
        np.testing.assert_allclose(found, alone, atol=1e-5)
    np.testing.assert_allclose(packed[0, 4:7], padded[1, :3], atol=1e-5)


def test_labels_stand_on_the_mean_of_all_real_states():
    model, params = tiny(bert, head="classify", pool="mean")
    batch = rows([5, 3])
    states = np.asarray(run(model, params, batch, "encode"))
    logits, params = run(model, params, batch), jax.device_get(params)
    pooler, out = params["head"]["pooler"]["dense"], params["head"]["classify"]["out"]
    for row, length in enumerate((5, 3)):
        mean = states[row, :length].mean(0)
        wanted = np.tanh(mean @ pooler["kernel"] + pooler["bias"])
        wanted = wanted @ out["kernel"] + out["bias"]
        np.testing.assert_allclose(logits[row], wanted, atol=1e-5)


def test_types_and_every_token_reach_every_token():
    model, params = tiny(bert, head="masked_lm")
    batch = rows([5])
    before = np.asarray(run(model, params, batch))
    for t in range(5):
        tokens, types = batch.tokens.copy(), batch.types.copy()
        tokens[0, t] = (tokens[0, t] + 1) % V
        types[0, t] ^= 1
        for other in (batch._replace(tokens=tokens), batch._replace(types=types)):
            moved = np.abs(np.asarray(run(model, params, other)) - before).max(-1)
            assert (moved > 1e-5).all()
    zero = batch._replace(types=np.zeros_like(batch.types))
    np.testing.assert_array_equal(
        run(model, params, zero), run(model, params, batch._replace(types=None))
    )


def test_scanned_layers_compute_the_same():
    model, params = tiny(bert)
    scanned, _ = tiny(bert, layout="scanned")
    batch = rows([5, 3])
    wanted, found = run(model, params, batch), run(scanned, to_scanned(params), batch)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted
    )


def test_what_does_not_fit_is_refused():
    model, params = tiny(bert)
    with pytest.raises(ValueError, match="rows of 13 tokens.*model.max_length=12"):
        run(model, params, rows([13]))
    for change, message in [
        (dict(depth=0), "model.depth=0 must be positive"),
        (dict(head_dropout=1.0), r"model.head_dropout=1.0 must be in \[0, 1\)"),
        (dict(heads=3), "model.heads=3 must divide"),
    ]:
        with pytest.raises(ValueError, match=message):
            bert.Config(**(TINY | change))
