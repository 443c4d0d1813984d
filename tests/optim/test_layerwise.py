"""Which factor the rate of a parameter has: every module of every family has one."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from tests.models import (
    test_blip2,
    test_flamingo,
    tiny,
    tiny_conv,
    tiny_images,
    tiny_pairs,
    tiny_text,
)
from tests.models.test_encoder_knobs import GENERATOR
from tfm_jax.config import ConfigError
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.layers.heads import HEADS
from tfm_jax.layers.layout import to_scanned, to_unrolled
from tfm_jax.models import MODELS, albert, bert, dit, electra, gpt, rnn_seq2seq, vit
from tfm_jax.objectives.translation import example as translation_example
from tfm_jax.optim import layerwise
from tfm_jax.optim.optimizers import Config, make_optimizer

ONE = np.ones((1, 1), np.int32)
BATCH = MaskedBatch(*(*tiny_text.ONE, ONE, np.ones((1, 1), np.float32), ONE, ONE[0]))


def text(module, **changes):
    model = module.Model(module.Config(**tiny_text.TINY | dict(depth=1) | changes))
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda: model.init(key, BATCH, train=False))
    return nn.unbox(variables)["params"]


def translation(**changes):
    fields = dict(source_vocab=11, target_vocab=11, width=8, heads=2, ffn_width=12)
    fields |= dict(encoder_depth=1, decoder_depth=1)
    return tiny.shapes(tiny.Config(**fields | changes))


def images(**changes):
    cfg = vit.Config(**tiny_images.TINY | dict(depth=1) | changes)
    return tiny_images.shapes(vit.Vit(cfg))


def convolutional(**changes):
    one = dict(encoder_widths=(8,), decoder_widths=(8,), decoder_kernels=(3,))
    return tiny_conv.tiny(**one | changes)[1]


def recurrent(**changes):
    fields = dict(source_vocab=11, target_vocab=11, width=8)
    model = rnn_seq2seq.Model(rnn_seq2seq.Config(**fields | changes))
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), translation_example())
    return nn.unbox(variables)["params"]


def denoising(**changes):
    fields = dict(width=8, heads=2, ffn_width=12, depth=1, image_size=(4,), labels=2)
    model = dit.Dit(dit.Config(**fields | changes))
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda: model.init(key, ONE, train=False))
    return nn.unbox(variables)["params"]


def visual():
    language = test_flamingo.LANGUAGE | dict(depth=1, positions="learned", max_length=9)
    config = test_flamingo.config_of(**test_flamingo.TINY | dict(lm=language))
    model = test_flamingo.Flamingo(config)
    return jax.eval_shape(lambda: test_flamingo.initial(model))


def paired():
    return jax.eval_shape(lambda: tiny_pairs.tiny(text=dict(depth=1))[1])


def prompted():
    shallow = {name: test_blip2.TINY[name] | dict(depth=1) for name in ("text", "lm")}
    model = test_blip2.Blip2(test_blip2.config_of(**test_blip2.TINY | shallow))
    return jax.eval_shape(lambda: test_blip2.initial(model))


FAMILIES = {
    "blip2": [prompted],
    "dit": [
        functools.partial(denoising, positions="learned"),
        functools.partial(denoising, conditioning="in_context", positions="t5"),
    ],
    "conv_seq2seq": [
        convolutional,
        functools.partial(convolutional, attention_projections="shared"),
        functools.partial(convolutional, tie="two_way", output_width=6),
    ],
    "rnn_seq2seq": [recurrent],
    "transformer": [
        functools.partial(translation, tie="none", positions="learned"),
        functools.partial(translation, output_bias=True, positions="t5", norm="pre"),
    ],
    "gpt": [functools.partial(text, gpt, head=head) for head in gpt.HEADS]
    + [functools.partial(text, gpt, tie_embeddings=False, positions="t5")],
    "bert": [functools.partial(text, bert, head=head) for head in HEADS]
    + [functools.partial(text, bert, norm="pre", positions="t5")],
    "albert": [functools.partial(text, albert, embedding_width=6)],
    "electra": [
        functools.partial(text, electra, embedding_width=6, **GENERATOR, head=head)
        for head in electra.HEADS
    ],
    "flamingo": [visual],
    "qformer": [paired],
    "vit": [
        functools.partial(images, registers=1, representation_width=4),
        functools.partial(images, pool="map", positions="t5"),
    ],
}
# modules that are no layer, and lie below the first one
BELOW = {
    "embedding", "source_embedding", "target_embedding", "word", "type", "map", "norm",
    "position", "source_positions", "target_positions", "position_bias", "project_in",
}  # fmt: skip


BELOW |= {"patch", "time", "label", "frame", "latents", "queries"}
NO_ORDER = {"unet"}


def factors(family, shapes):
    ends = dict(below=MODELS[family].below, above=MODELS[family].above)
    return layerwise.factors(0.5, (), shapes, **ends)


def test_the_families_are_those_of_the_registry():
    """But for one whose halves mirror each other: no layer is above all others."""
    assert FAMILIES.keys() == MODELS.keys() - NO_ORDER


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_every_family_has_its_factor(family):
    for shapes in FAMILIES[family]:
        found = flatten_dict(factors(family, shapes()))
        for path, factor in found.items():
            outside = set(path) - {"encoder", "stack", "generator"}
            if "final_modulation" in outside:
                outside.remove("map")
            if any(name.startswith("layer_") for name in path):
                assert factor == 0.5**2, path
            elif outside & BELOW - {"norm"}:
                assert factor == 0.5**3, path
            else:
                assert factor == 1.0, path


def test_position_tables_of_both_sides_move_like_embeddings():
    found = factors("transformer", FAMILIES["transformer"][0]())
    tables = {name: x["table"] for name, x in found.items() if "table" in x}
    sides = ("source", "target")
    names = [f"{side}_{kind}" for side in sides for kind in ("embedding", "positions")]
    assert tables == dict.fromkeys(names, 0.5**3)


def tree(name="head"):
    layer = {"ffn": {"kernel": np.ones((2, 2), np.float32)}}
    return {"stack": {"layer_0": layer, "layer_1": layer}, name: layer["ffn"]}


def test_layers_of_two_kinds_have_the_rates_of_their_numbers_in_both_layouts():
    layer = {"ffn": {"kernel": np.ones((2, 2), np.float32)}}
    more = layer | {"cross_attention": {"kernel": np.ones((3, 2), np.float32)}}
    stack = {"stack": {f"layer_{i}": (more, layer)[i % 2] for i in range(6)}}
    unrolled = layerwise.factors(0.5, (), stack)
    scanned = layerwise.factors(0.5, (), to_scanned(stack))
    shaped = jax.tree.map(
        lambda x, factor: np.broadcast_to(factor, x.shape), to_scanned(stack), scanned
    )
    jax.tree.map(
        lambda factor, x: np.testing.assert_array_equal(x, factor),
        unrolled,
        jax.tree.map(lambda x: x.flat[0], to_unrolled(shaped)),
    )


@pytest.mark.parametrize("of_layout", [dict, to_scanned])
def test_a_parameter_that_no_rule_knows_is_refused_before_the_first_step(of_layout):
    params = of_layout(tree("adapter"))
    optimizer = make_optimizer(Config(layer_decay=0.5), 10, above=("head",))
    with pytest.raises(ConfigError, match="layer_decay=0.5: adapter/kernel lies in no"):
        optimizer.init(params)
    optimizer.init(of_layout(tree()))


def test_a_rate_of_nothing_is_refused_before_the_first_step():
    optimizer = make_optimizer(Config(lr_multipliers=("head=2", "embeding=0.1")), 10)
    with pytest.raises(
        ConfigError, match="optim.lr_multipliers='embeding=0.1' matches none of"
    ):
        optimizer.init(tree())
