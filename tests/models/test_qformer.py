import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models import tiny_images, tiny_text
from tests.models.tiny_pairs import config, pairs, tiny
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.layers.layout import abstract, init_params, to_scanned
from tfm_jax.layers.text.queries import MASKS, QueryingEncoder
from tfm_jax.models import bert, qformer
from tfm_jax.objectives import retrieval


def encoder(cfg):
    return QueryingEncoder(cfg.arch, cfg.queries, cfg.cross_every)


def counted(**changes):
    """First name of the paths -> parameters, in millions; nothing is computed."""
    cfg = qformer.Config(**changes, layout="scanned")  # each kind of layer once
    params = abstract(qformer.Retriever(cfg), retrieval.example()).params
    sizes = {name: jax.tree.leaves(tree) for name, tree in params.items()}
    return {name: sum(x.size for x in tree) / 1e6 for name, tree in sizes.items()}


def test_parameters_are_as_many_as_the_papers_formula_gives():
    """188 M are printed; with all heads, and of the queries alone."""
    vision = qformer.Vision(width=1408, depth=1, heads=16)  # as wide as that of ViT-g
    base = dict(vision=vision, text=qformer.Text(vocab=30_522))
    with_heads = counted(**base)
    assert round(with_heads["qformer"] + with_heads["head"], 1) == 186.7
    alone = counted(**base, head="states")
    assert round(alone["qformer"], 1) == 105.2 and alone.keys() == {"vision", "qformer"}


LENGTHS = np.array([5, 3])


@pytest.fixture(scope="module")
def reach():
    """mask -> (what reaches each row [Q + T, Q + T], whether the image does)."""
    model, params = tiny()
    queries, size = model.cfg.queries, 6
    real = np.arange(size) < 5
    tokens = jnp.asarray(np.where(real, np.arange(2, 8), 0))[None]  # all different
    text = TextBatch(tokens, jnp.asarray(real.astype(np.int32))[None])
    states = jnp.asarray(np.random.default_rng(3).normal(size=(1, 3, 6)), jnp.float32)
    direction = np.random.default_rng(4).normal(size=model.cfg.text.width)

    @jax.jit
    def jacobians(params, states):
        def rows(inputs, mask):
            queries, table, states = inputs
            own = {**params["qformer"], "queries": queries}
            word = {"table": table}
            own["embedding"] = {**own["embedding"], "word": word}
            both = encoder(model.cfg).apply(
                {"params": own}, states, text, mask, train=False
            )
            return jnp.concatenate(both, axis=1)[0] @ direction

        table = params["qformer"]["embedding"]["word"]["table"]
        inputs = params["qformer"]["queries"], table, states
        return {
            mask: jax.jacrev(functools.partial(rows, mask=mask))(inputs)
            for mask in MASKS
        }

    def reached(of_queries, of_table, of_states):
        by_token = np.abs(of_table).sum(-1)[:, np.asarray(tokens[0])]
        by_query = np.abs(of_queries).sum(-1)
        return np.concatenate([by_query, by_token], 1) > 0, np.abs(of_states).sum(
            (1, 2, 3)
        ) > 0

    found = jax.device_get(jacobians(params, states))
    return queries, real, {mask: reached(*x) for mask, x in found.items()}


def test_queries_and_text_reach_what_their_mask_says_and_nothing_else(reach):
    """By the gradient of every row of the last layer by every row of the first."""
    queries, real, by_mask = reach
    count = queries + len(real)
    is_query = np.arange(count) < queries
    seen = np.concatenate([np.ones(queries, bool), real])
    t = np.arange(count)
    wanted = {
        "apart": is_query[:, None] == is_query,
        "full": np.ones((count, count), bool),
        "causal": is_query | (t <= t[:, None]),
    }
    assert wanted.keys() == MASKS.keys()
    for mask, visible in wanted.items():
        rows, image = by_mask[mask]
        np.testing.assert_array_equal(rows[seen], (visible & seen)[seen], mask)
        np.testing.assert_array_equal(image[seen], (visible & is_query).any(1)[seen])


@pytest.fixture(scope="module")
def outputs():
    """(model, params, batch, outputs), of one compiled program."""
    model, params = tiny()
    return model, params, pairs(), run(model, params, pairs())


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


@pytest.mark.parametrize("place", [2, 4])
def test_a_later_token_changes_no_earlier_prediction(outputs, place):
    """And the vectors of the images and of other rows stay."""
    model, params, batch, before = outputs
    tokens = batch.tokens.copy()
    tokens[0, place] = 12 - tokens[0, place] + 1
    after = run(model, params, batch._replace(tokens=tokens))
    moved = np.abs(after.lm_logits - before.lm_logits).max(-1) > 1e-6
    assert moved[0, place] and not moved[0, :place].any() and not moved[1:].any()
    for name in ("images", "texts"):
        moved = getattr(after.vectors, name) != getattr(before.vectors, name)
        assert moved.any() == (name == "texts") and not moved[1:].any()
    assert not np.allclose(after.match[0], before.match[0], atol=1e-6)
    assert np.array_equal(after.match[1:], before.match[1:])


def test_with_the_wrong_mask_a_later_token_does(outputs):
    _, params, batch, before = outputs
    wrong = qformer.Retriever(config(generation_mask="full"))
    tokens = batch.tokens.copy()
    tokens[0, 4] = 12 - tokens[0, 4] + 1
    first, second = (
        run(wrong, params, batch._replace(tokens=x)) for x in (batch.tokens, tokens)
    )
    moved = np.abs(first.lm_logits - second.lm_logits).max(-1) > 1e-6
    assert moved[0, :5].all() and not moved[1:].any()
    np.testing.assert_array_equal(first.match, before.match)


def test_padding_and_the_first_token_of_a_generated_text_say_nothing(outputs):
    """A vector of its own stands for that one."""
    model, params, batch, before = outputs
    tokens = batch.tokens.copy()
    tokens[1, 3:] = 7  # behind its three
    after = run(model, params, batch._replace(tokens=tokens))
    np.testing.assert_array_equal(after.match, before.match)
    np.testing.assert_array_equal(after.vectors.texts, before.vectors.texts)
    np.testing.assert_array_equal(after.lm_logits[:, :3], before.lm_logits[:, :3])
    tokens = batch.tokens.copy()
    tokens[:, 0] = 9
    after = run(model, params, batch._replace(tokens=tokens))
    np.testing.assert_array_equal(after.lm_logits, before.lm_logits)
    assert not np.allclose(after.vectors.texts, before.vectors.texts, atol=1e-3)


def test_queries_see_the_same_whether_text_is_generated_or_compared(outputs):
    """And images and texts have the same vectors together and alone."""
    model, params, batch, before = outputs
    text = TextBatch(batch.tokens, batch.segments)

    @jax.jit
    def states(params):
        def of(model):
            states = model.image_states(batch.images, train=False)
            rows = [
                model.qformer(states, text, mask, train=False)[0]
                for mask in ("apart", "causal")
            ]
            alone = [(states, None), (None, text)]
            return rows, [model.contrast(*pair, train=False) for pair in alone]

        return model.apply({"params": params}, method=of)

    (compared, generated), (images, texts) = states(params)
    np.testing.assert_allclose(generated, compared, atol=2e-6)
    np.testing.assert_allclose(images.images, before.vectors.images, atol=1e-6)
    np.testing.assert_allclose(texts.texts, before.vectors.texts, atol=1e-6)
    assert images.texts is None and texts.images is None
    np.testing.assert_allclose(np.linalg.norm(images.images, axis=-1), 1, atol=1e-5)


def test_an_image_is_compared_by_its_closest_query_or_by_their_mean(outputs):
    _, params, batch, before = outputs
    each, texts, _ = before.vectors
    assert each.shape == (3, 3, 5)
    cosines = np.einsum("bqd,cd->bcq", each, texts)
    found = retrieval.similarity(each, texts)
    np.testing.assert_allclose(found, cosines.max(-1), atol=1e-6)
    mean = np.asarray(qformer.POOLS["mean"](each))
    found = retrieval.similarity(mean, texts)
    np.testing.assert_allclose(found, cosines.mean(-1), atol=1e-6)


def taken(part, params, source, model):
    """What a part of ``model`` takes of a source, and the paths that are its own."""
    start = qformer.FAMILY.starts[part]
    flat = start.take(flatten_dict(params, sep="/"), source.cfg, model.cfg)
    owned = {path for path in paths_of(model) if re.search(start.owns, path)}
    assert owned <= flat.keys() <= paths_of(model)
    return flat, owned


def paths_of(model):
    key, example = jax.random.key(0), retrieval.example()
    shapes = jax.eval_shape(lambda: init_params(model, key, example))
    return flatten_dict(shapes, sep="/").keys()


def test_a_text_alone_has_the_states_of_the_bert_that_it_starts_from():
    """And the queries have a copy of its feed-forward blocks."""
    source, theirs = tiny_text.tiny(bert, head="masked_lm", vocab=13, max_length=9)
    model = qformer.Retriever(config())
    found, owned = taken("text", theirs, source, model)
    batch = pairs()
    text = TextBatch(batch.tokens, batch.segments)
    bare = bert.Bert(dataclasses.replace(source.cfg, head="states"))
    wanted = tiny_text.run(bare, theirs, text)
    params = unflatten_dict(found, sep="/")["qformer"]
    params["queries"] = np.zeros((3, 8), np.float32)
    alone = functools.partial(encoder(model.cfg).apply, train=False)
    _, states = jax.jit(lambda x: alone({"params": x}, None, text, "apart"))(params)
    real = batch.segments > 0
    np.testing.assert_allclose(states[real], wanted[real], atol=1e-5)
    layer = params["stack"]["layer_1"]
    assert layer["query_ffn"] is not layer["ffn"]
    jax.tree.map(np.testing.assert_array_equal, layer["query_ffn"], layer["ffn"])
    assert {path.partition("/")[0] for path in owned} == {"qformer"}
    assert not [x for x in owned if "quer" in x.replace("query/", "")]


def test_an_image_has_the_states_of_the_encoder_that_it_starts_from():
    source, theirs = tiny_images.tiny(
        **dict(width=6, heads=2, ffn_width=8, depth=1, image_size=(4, 4)),
        **dict(patch_size=(4,), pool="cls"),
    )
    model = qformer.Retriever(config())
    found, owned = taken("vision", theirs, source, model)
    table = "encoder/embedding/position/table"
    before = flatten_dict(theirs, sep="/")
    for path, x in found.items():
        theirs_x = before[path.removeprefix("vision/")]
        if path.endswith(table):  # twice as wide
            assert x.shape == (3, 6) and np.array_equal(x[0], theirs_x[0])
        else:
            assert x is theirs_x
    left = found.keys() - owned
    assert {*left} == {
        f"vision/encoder/stack/final_norm/{x}" for x in ("bias", "scale")
    }


def test_scanned_layers_compute_the_same(outputs):
    """Every second layer has no attention to the image."""
    model, params, batch, before = outputs
    scanned = qformer.Retriever(config(layout="scanned"))
    names = {*flatten_dict(to_scanned(params)["qformer"]["stack"], sep="/")}
    assert {name.partition("/")[0] for name in names} == {
        "layers_0_of_2",
        "layers_1_of_2",
    }
    assert not any("layers_1_of_2/cross" in name for name in names)
    after = run(scanned, to_scanned(params), batch)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), after, before
    )


def test_rows_that_do_not_fit_are_refused(outputs):
    model, params, batch, _ = outputs
    many = batch._replace(images=np.repeat(batch.images, 2, axis=1))
    long = batch._replace(**dict.fromkeys(("tokens", "segments"), np.ones((3, 10))))
    for wrong, message in [
        (many, "rows have 2 images each, not one"),
        (long, "10 tokens are longer than model.text.max_length=9"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(run, model), params, wrong)


@pytest.mark.parametrize("prompts", [(1, 1, 1), (1, 3, 2)], ids=["first", "longer"])
def test_written_texts_are_the_likeliest_tokens_of_the_full_pass(outputs, prompts):
    """Token for token, with the log-probabilities that it gives them."""
    model, params, batch, _ = outputs
    rows = [row[:n] for row, n in zip(batch.tokens, prompts, strict=True)]
    how = Sampling(5, samples=2, temperature=0.0)
    beside = {"images": batch.images, "image_counts": batch.image_counts}
    written = jax.device_get(generate(model, params, rows, how, beside=beside))
    np.testing.assert_array_equal(written.tokens[:, 0], written.tokens[:, 1])
    tokens, scores = np.zeros((3, 9), np.int32), np.zeros(3)
    for row, prompt in enumerate(rows):
        tokens[row, : len(prompt)] = prompt
    for drawn in range(5):
        places = np.array(prompts) + drawn
        segments = (np.arange(9) < places[:, None]).astype(np.int32)
        whole = batch._replace(tokens=tokens, segments=segments)
        logits = run(model, params, whole).lm_logits[np.arange(3), places - 1]
        tokens[np.arange(3), places] = best = np.argmax(logits, axis=-1)
        np.testing.assert_array_equal(best, written.tokens[:, 0, drawn])
        scores += np.max(jax.nn.log_softmax(logits), axis=-1)
    np.testing.assert_allclose(written.scores[:, 0], scores, atol=1e-4)
    assert len({*map(tuple, written.tokens[:, 0])}) > 1, "images make no difference"


def test_a_model_without_the_head_that_generates_says_so(outputs):
    _, params, batch, _ = outputs
    model, beside = (
        qformer.Retriever(config(head="retrieval")),
        dict(images=batch.images),
    )
    rows = list(batch.tokens[:, :1])
    with pytest.raises(ValueError, match="model.head='retrieval' writes no text"):
        generate(model, params, rows, Sampling(2), beside=beside)
