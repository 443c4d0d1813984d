"""BLIP-2: the soft prompt, who sees what, decoding, published sizes."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.layers.weights import randomised
from tests.models import tiny_pairs
from tests.test_knobs import assert_roles
from tfm_jax.config import ConfigError, build, replaced, with_defaults
from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.layers.layout import init_params
from tfm_jax.models import blip2, gpt, qformer
from tfm_jax.models.blip2 import FAMILY, SIZES, Blip2, Config
from tfm_jax.objectives import visual_lm

B, T, V, W, Q = 2, 6, 11, 2, 3
READER = dict(width=8, heads=2, ffn_width=12, depth=2)
LANGUAGE = dict(width=8, heads=2, ffn_width=12, depth=2, max_length=Q + T)
TINY = dict(vision=tiny_pairs.VISION, text=READER, lm=LANGUAGE, queries=Q, vocab=V)
LENGTHS = np.array([6, 4])
REAL = (np.arange(T) < LENGTHS[:, None]).astype(np.int32)
# all tokens of a row differ
TOKENS = np.stack([np.random.default_rng(n).permutation(V)[:T] for n in range(B)])
IMAGES = np.random.default_rng(2).normal(size=(B, 1, 4, 8, 2)).astype(np.float32)


def config_of(**sections):
    return build(Config, with_defaults(Config, sections))


def batch_of(images=IMAGES, tokens=TOKENS, real=REAL):
    count = np.ones(B, np.int32)
    return ImageTextBatch(
        tokens.astype(np.int32), real, None, None, None, None, images, count, real
    )


def initial(model):
    return init_params(model, jax.random.key(0), visual_lm.example())


@functools.cache
def case(**changes):
    """(model, parameters that look trained)."""
    lm = LANGUAGE | changes
    model = Blip2(config_of(**TINY | dict(lm=lm)))
    return model, randomised(jax.eval_shape(lambda: initial(model)))


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


@functools.partial(jax.jit, static_argnums=0)
def prompt_of(model, params):
    options = dict(train=False, method="prompt")
    return model.apply({"params": params}, IMAGES, **options)


def test_a_token_depends_on_its_image_and_its_past_and_on_nothing_else():
    """By the gradient of its logits by every image, and by every vector of a word."""
    model, params = case(tie_embeddings=False)
    direction = np.random.default_rng(3).normal(size=V)

    @jax.jit
    @jax.jacrev
    def moved(inputs):
        images, table = inputs
        own = {**params["lm"], "embedding": {"table": table}}
        return run(model, {**params, "lm": own}, batch_of(images)) @ direction

    of_images, of_table = moved((IMAGES, params["lm"]["embedding"]["table"]))
    by_image = np.abs(of_images).sum((3, 4, 5, 6)) > 0  # [B, T, B]
    wanted = np.repeat(np.eye(B, dtype=bool)[:, None], T, 1)
    np.testing.assert_array_equal(by_image[REAL > 0], wanted[REAL > 0])
    reach = np.abs(of_table).sum(-1) > 0  # [B, T, V]
    for row in range(B):
        by_token = reach[row][:, TOKENS[row]]
        wanted = np.tril(np.ones((T, T), bool))
        np.testing.assert_array_equal(by_token[REAL[row] > 0], wanted[REAL[row] > 0])


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
def test_the_prompt_is_a_text_of_tokens_that_have_these_vectors(positions):
    """Seen from the language model alone, whose table has a word for each of them."""
    model, params = case(positions=positions)
    vectors = prompt_of(model, params)
    language = dataclasses.replace(model.cfg.language(), vocab=V + B * Q)
    table = params["lm"]["embedding"]["table"]
    table = jnp.concatenate([table, vectors.reshape(B * Q, -1)])
    own = {**params["lm"], "embedding": {"table": table}}
    tokens = np.concatenate([V + np.arange(B * Q).reshape(B, Q), TOKENS], axis=1)
    text = TextBatch(tokens, np.pad(REAL, ((0, 0), (Q, 0)), constant_values=1))
    alone = run(gpt.Gpt(language), own, text)[:, Q:, :V]
    logits = run(model, params, batch_of())
    assert logits.shape == (B, T, V) and logits.dtype == np.float32
    np.testing.assert_allclose(logits[REAL > 0], alone[REAL > 0], atol=1e-6)


@functools.partial(jax.jit, static_argnums=(0, 3))
def decoded(model, params, tokens, size):
    """Logits of the tokens behind ``size`` columns of text, one by one."""
    bound = model.bind({"params": params})
    lengths = jnp.minimum(LENGTHS, size)
    options = dict(images=IMAGES, image_counts=None, image_index=None)
    cache = bound.prefill(tokens[:, :size], lengths, width=W, max_length=T, **options)
    logits_of = []
    for t in range(size, T):
        logits, cache = bound.step(jnp.repeat(tokens[:, t : t + 1], W, 1), cache)
        cache = cache.select(jnp.array([[1, 0]] * B))
        logits_of.append(logits)
    return jnp.stack(logits_of, axis=1)


@pytest.mark.parametrize("positions, size", [("learned", 5), ("rotary", 0)])
def test_cached_decoding_behind_images_equals_the_full_pass(positions, size):
    """Row 1 has padding in its prompt, and goes on as if it stood alone."""
    model, params = case(positions=positions)
    steps = decoded(model, params, TOKENS, size)
    whole = run(model, params, batch_of(real=np.ones_like(REAL)))
    for w in range(W):
        np.testing.assert_allclose(steps[0, :, w], whole[0, size:], atol=1e-5)
    if size:
        tokens = np.where(np.arange(T) == LENGTHS[1], TOKENS[:, -1:], TOKENS)
        alone = run(model, params, batch_of(tokens=tokens, real=np.ones_like(REAL)))
        np.testing.assert_allclose(steps[1, 0, 0], alone[1, LENGTHS[1]], atol=1e-5)


def test_a_prompt_and_several_documents_in_a_row_do_not_go_together():
    model, params = case()
    language = gpt.Gpt(model.cfg.language())
    packed = TextBatch(TOKENS, REAL, np.repeat(np.arange(T)[None], B, 0))
    with pytest.raises(ValueError, match="one document, not of several"):
        language.apply(
            {"params": params["lm"]}, packed, prompt=jnp.zeros((B, Q, 8)), train=False
        )


def test_rows_are_as_long_as_the_language_model_takes_behind_the_queries():
    assert config_of(**TINY).longest == T
    rotary = config_of(**TINY | dict(lm=LANGUAGE | dict(positions="rotary")))
    assert rotary.longest == 0
    with pytest.raises(ConfigError, match="max_length=3 leaves no room .*queries=3"):
        config_of(**TINY | dict(lm=LANGUAGE | dict(max_length=Q)))


PRINTED = {"vit_l_opt_2.7b": 104, "vit_g_opt_2.7b": 107, "vit_g_opt_6.7b": 108}


@pytest.mark.parametrize("size", PRINTED)
def test_published_sizes_train_the_printed_millions_of_parameters(size):
    """Li et al. 2023, table 2; what is frozen has one layer here."""
    cfg = config_of(**SIZES[size], vocab=50_272)
    cfg = replaced(cfg, {"lm.depth": 1, "vision.depth": 1, "layout": "scanned"})
    model = Blip2(cfg)
    shapes = flatten_dict(jax.eval_shape(lambda: initial(model)), sep="/")
    still = re.compile("|".join(FAMILY.starts[part].owns for part in ("lm", "vision")))
    moving = [x for path, x in shapes.items() if not still.search(path)]
    assert round(sum(math.prod(x.shape) for x in moving) / 1e6) == PRINTED[size]


def test_of_stage_one_all_is_taken_but_what_text_alone_goes_through():
    before, params = tiny_pairs.tiny()
    flat = flatten_dict(params, sep="/")
    model, _ = case()
    here = flatten_dict(jax.eval_shape(lambda: initial(model)), sep="/")
    taken = FAMILY.starts["qformer"].take(flat, before.cfg, model.cfg)
    there = {k for k in here if k.partition("/")[0] in ("vision", "qformer")}
    assert taken.keys() == there
    assert all(x is flat[path] for path, x in taken.items())
    assert FAMILY.starts["qformer"].brings == ("vision",)
    lost = flat.keys() - taken.keys()
    assert all("/ffn" in k or "/embedding/" in k or "head/" in k for k in lost)


KNOBS = {  # sections: all that they have reaches the parts; those have such tests
    "queries": 4,
    "cross_every": 1,
    "vocab": 12,
    "init": {},
}


def test_every_knob_changes_the_programs_of_its_role():
    own = {field.name for field in dataclasses.fields(Config)}
    own -= {field.name for field in dataclasses.fields(qformer.Execution)}
    assert {*KNOBS, "vision", "text", "lm"} == own, "say here what these change"
    cfg = config_of(**TINY | dict(lm=LANGUAGE | dict(max_length=Q + T + 1, depth=1)))
    assert_roles(cfg, KNOBS, Blip2, batch_of())


def test_the_parts_have_all_that_their_sections_say():
    changes = {"dtype": "bfloat16", "text.dropout": 0.3, "lm.norm": "post"}
    cfg = replaced(config_of(**TINY), changes | {"vision.registers": 2})
    parts = (
        (cfg.vision, cfg.encoder()),
        (cfg.text, cfg.arch),
        (cfg.lm, cfg.language()),
    )
    for section, part in parts:
        fields = dataclasses.asdict(section)
        assert fields.items() <= dataclasses.asdict(part).items()
        assert part.dtype == "bfloat16"
    assert cfg.language().vocab == V


@pytest.mark.parametrize("part", [*FAMILY.starts])
def test_what_is_held_still_drops_nothing(part):
    dropped = {"vision": "vision", "qformer": "text", "lm": "lm"}
    off = {f"{x}.{y}": 0.0 for x in ("text", "lm") for y in ("dropout",)}
    off |= {"text.attention_dropout": 0.0, "lm.attention_dropout": 0.0}
    off |= {"lm.embedding_dropout": 0.0, f"{dropped[part]}.dropout": 0.5}
    cfg, (model, params) = replaced(config_of(**TINY), off), case()
    evaluated = run(model, params, batch_of())

    @functools.partial(jax.jit, static_argnums=0)
    def trained(model):
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params}, batch_of(), train=True, rngs=rngs)

    np.testing.assert_allclose(trained(Blip2(cfg, (part,))), evaluated, atol=1e-6)
    assert np.abs(trained(Blip2(cfg)) - evaluated).max() > 1e-2


def test_no_name_of_a_part_is_left_over():
    """Each parameter is of one part, or of the map, or the norm trained with it."""
    shapes = flatten_dict(jax.eval_shape(lambda: initial(case()[0])), sep="/")
    owned = {
        path: [n for n, x in FAMILY.starts.items() if re.search(x.owns, path)]
        for path in shapes
    }
    alone = {path.rpartition("/")[0] for path, parts in owned.items() if not parts}
    assert alone == {"projection", "vision/encoder/stack/final_norm"}
    assert all(len(parts) <= 1 for parts in owned.values())
    nested = unflatten_dict(dict.fromkeys(shapes, 0), sep="/")
    assert nested.keys() == {"vision", "qformer", "projection", "lm"}
    assert blip2.Model is FAMILY.model
