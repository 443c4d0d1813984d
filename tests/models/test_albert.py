import functools

import jax
import numpy as np
import pytest

from tests.models.tiny_text import TINY, V, rows, run, sizes, tiny
from tfm_jax.layers.sharing import SHARES
from tfm_jax.models import albert, bert

TINY_ALBERT = dict(embedding_width=6)
BASE = albert.Config()


def millions(depth=BASE.depth, **fields):
    """Of encoder and pooler, which the paper counts; each layer adds as many.

    Not of several groups.
    """

    def of(depth):
        cfg = albert.Config(vocab=30_000, depth=depth, **fields)
        found = sizes(albert.Albert(cfg)).items()
        return sum(n for k, n in found if k.startswith(("encoder", "head/pooler")))

    one, two = of(1), of(2)
    return (one + (depth - 1) * (two - one)) / 1e6


@pytest.mark.parametrize(
    "size, wanted",
    [("base", 11.68), ("large", 17.68), ("xlarge", 58.72), ("xxlarge", 222.60)],
)
def test_parameters_are_as_many_as_published(size, wanted):
    assert round(millions(**albert.SIZES[size]), 2) == wanted


# Lan et al. 2020, table 4, in millions, rounded as there: E = 768 and E = 128
TABLE_4 = {
    "all": (31, 12),
    "attention": (83, 64),
    "ffn": (57, 38),
    "none": (108, 89),
}


@pytest.mark.parametrize("share", TABLE_4)
def test_what_is_shared_counts_as_in_table_4(share):
    wide = millions(share=share, embedding_width=768, embedding_map="where_needed")
    narrow = millions(share=share)
    for found, printed in zip((wide, narrow), TABLE_4[share], strict=True):
        assert abs(found - printed) < 1.2
    mapped = millions(share=share, embedding_width=768)
    assert round((mapped - wide) * 1e6) == 768 * 768 + 768
    assert set(TABLE_4) == set(SHARES)


def copied(params, share, groups, depth):
    """Parameters of unshared layers that are equal to those shared ones."""
    layers = params["encoder"]["stack"]
    stack = {}
    for i in range(depth):
        first = next(
            j for j in range(depth) if j * groups // depth == i * groups // depth
        )
        attends = first if "self_attention" in SHARES[share] else i
        feeds = first if "feed_forward" in SHARES[share] else i
        kept = {
            attends: ("self_attention", "self_attention_residual"),
            feeds: ("ffn", "ffn_residual"),
        }
        if attends == feeds:
            kept = {feeds: (*layers[f"layer_{feeds}"],)}
        stack[f"layer_{i}"] = {
            name: layers[f"layer_{owner}"][name]
            for owner, names in kept.items()
            for name in names
        }
    return params | {"encoder": params["encoder"] | {"stack": stack}}


@pytest.mark.parametrize(
    "share, groups, remat",
    [
        ("attention", 1, "none"),
        ("ffn", 2, "full"),
        ("all", 1, "dots"),
        ("all", 2, "none"),
    ],
)
def test_shared_layers_are_copies_of_one_another(share, groups, remat):
    fields = TINY_ALBERT | dict(head="masked_lm", depth=4)
    model, params = tiny(albert, share=share, groups=groups, remat=remat, **fields)
    plain, shapes = tiny(albert, share="none", **fields)
    batch, same = rows([5, 3]), copied(params, share, groups, 4)
    assert jax.tree.structure(same) == jax.tree.structure(shapes)
    found, gradient = by_readout(model, params, batch)
    wanted, apart = by_readout(plain, same, batch)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    stacks = [x["encoder"]["stack"] for x in (gradient, apart)]
    kernel = [x["layer_0"]["ffn"]["up"]["kernel"] for x in stacks]
    borrowers = range(1, 4 // groups) if "feed_forward" in SHARES[share] else ()
    for i in borrowers:
        kernel[1] += stacks[1][f"layer_{i}"]["ffn"]["up"]["kernel"]
    np.testing.assert_allclose(*kernel, rtol=1e-4, atol=1e-4)


@functools.partial(jax.jit, static_argnums=0)
def by_readout(model, params, batch):
    """A sum over logits, and its gradient by the parameters."""

    def loss(params):
        y = model.apply({"params": params}, batch, train=False)
        return (y * np.cos(np.arange(V))).sum()

    return jax.value_and_grad(loss)(params)


def test_dropout_differs_between_layers_that_share():
    """Both calls of the one layer are seen."""
    model, params = tiny(
        albert, head="masked_lm", dropout=0.5, attention_dropout=0.0, **TINY_ALBERT
    )
    batch = rows([5])

    @jax.jit
    def watched(params):
        return model.apply(
            {"params": params},
            batch,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            method="encode",
            capture_intermediates=lambda module, _: module.name == "dropout",
            mutable="intermediates",
        )

    stack = watched(params)[1]["intermediates"]["encoder"]["stack"]
    once, twice = stack["layer_0"]["ffn_residual"]["dropout"]["__call__"]
    assert not np.array_equal(once == 0, twice == 0)


def test_all_shared_at_the_tables_width_is_bert_with_equal_layers():
    """One layer, no map: nothing is left of ALBERT but the pair head's dropout."""
    fields = dict(depth=1, activation="gelu", embedding_width=8)
    model, params = tiny(albert, embedding_map="where_needed", **fields)
    del fields["embedding_width"]
    other, shapes = tiny(bert, **fields)
    assert jax.tree.structure(shapes) == jax.tree.structure(params)
    found, wanted = (run(m, params, rows([5, 3])) for m in (model, other))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_what_does_not_fit_is_refused():
    for change, message in [
        (dict(groups=3), r"model.groups=3 must be in 1 .. model.depth=2"),
        (
            dict(layout="scanned"),
            "model.layout='scanned' holds every layer, model.share",
        ),
        (dict(embedding_width=0), "model.embedding_width=0 must be positive"),
        (
            dict(embedding_width=7, positions="sinusoidal"),
            "model.embedding_width=7 must be even",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            albert.Config(**(TINY | change))
    albert.Config(**(TINY | dict(layout="scanned", share="none")))
