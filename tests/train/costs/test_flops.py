"""FLOPs: closed forms, loops as often as they run, and XLA's count where it can see."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from experiments.runs import cells
from tfm_jax import api
from tfm_jax.train import program
from tfm_jax.train.costs import flops

W = jax.ShapeDtypeStruct((4, 4), jnp.float32)  # x @ w: 2 * 4 * 4 * 4 operations
LANGUAGE = "configs/gpt2_small.py:tiny"
B, T, D, F, L, V = 8, 9, 16, 48, 3, 18
RECALL = {
    **{"data.source": "recall", "data.layout": "single", "data.length": T},
    **{"data.separator": "", "tokenizer.kind": "character", "data.recall_train": 64},
    **{"train.batch_tokens": B * T, "model.depth": L, "model.width": D},
    **{"model.ffn_width": F, "model.heads": 2},
}


def products(function, *arguments):
    return flops.count(function, *arguments)["products"]


def looped(x, w):
    return lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]


@jax.custom_vjp
def square(x, w):
    return x @ w


square.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, g))


@pytest.mark.parametrize(
    "function, times",
    [
        (lambda x, w: x @ w, 1),
        (looped, 5),
        (lambda x, w: lax.map(lambda row: looped(row, w), x[None]), 5),
        (lambda x, w: lax.fori_loop(0, 3, lambda _, x: jax.jit(looped)(x, w), x), 15),
        (lambda x, w: jax.checkpoint(looped)(x, w), 5),
        (lambda x, w: square(x, w), 1),
        (lambda x, w: lax.cond(x[0, 0] > 0, looped, lambda x, w: x @ w, x, w), 5),
        (jax.grad(lambda x, w: looped(x, w).sum()), 10),  # forward, and to x alone
        (jax.grad(lambda x, w: looped(x, w).sum(), (0, 1)), 15),
    ],
)
def test_a_body_counts_as_often_as_it_runs(function, times):
    assert products(function, W, W) == times * 128


def test_a_loop_of_unknown_length_and_a_kernel_are_refused():
    def until(x, w):
        return lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ w, x)

    def called(x):
        return jax.pure_callback(lambda x: x, W, x)

    for function, arguments in ((until, (W, W)), (called, (W,))):
        with pytest.raises(flops.Uncountable):
            flops.count(function, *arguments)


def test_a_convolution_is_its_kernel_at_every_place():
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    names = ("NHWC", "HWIO", "NHWC")
    conv = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=names,
    )
    assert products(conv, x, kernel) == 2 * (2 * 6 * 6 * 5) * (3 * 3 * 3)


def test_a_gradient_through_strides_is_as_much_work_as_the_convolution():
    """To the input and to the kernel each; zeros between the strides are none."""

    def halved(x, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (2, 2), ((0, 1), (0, 1)), dimension_numbers=names
        ).sum()

    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    forward = products(halved, x, kernel)
    assert forward == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert products(jax.grad(halved, (0, 1)), x, kernel) == 3 * forward


def test_elementwise_work_is_one_for_each_element_and_moving_none():
    def moved(x, w):
        return jnp.concatenate([x.T, w])[::2], jnp.where(x > w, x, w)

    assert flops.count(moved, W, W).total() == 0
    found = flops.count(lambda x, w: jnp.tanh(x + w).sum(), W, W)
    assert found == {"elementwise": 3 * 16}


def step_of(config, settings):
    """A train step with its state and batch, shapes alone."""
    experiment = cells.configure(config, settings)
    experiment, batch, _ = api.start(experiment)
    functions = program.build(experiment)
    state = functions.shapes()
    return functions.train_step, state, jax.tree.map(lambda x: x[None], batch)


ARMS = {
    "unrolled": {},
    "scanned": {"model.layout": "scanned"},
    "additive": {"model.score": "additive"},
}


@pytest.fixture(scope="module")
def steps():
    return {arm: step_of(LANGUAGE, RECALL | knobs) for arm, knobs in ARMS.items()}


@pytest.fixture(scope="module")
def counted(steps):
    return {arm: flops.count(*step) for arm, step in steps.items()}


def test_a_step_of_a_language_model_has_the_products_of_the_closed_form(steps, counted):
    """Forward 2 a weight and token, and 4 T D a token for attention; thrice with
    backward (Kaplan et al. 2020, arXiv:2001.08361, section 2.1; Hoffmann et al. 2022,
    arXiv:2203.15556, appendix F).
    """
    _, state, batch = steps["unrolled"]
    assert batch.tokens.shape == (1, B, T)
    assert state.params["embedding"]["table"].shape == (V, D)
    layer = 2 * (4 * D * D + 2 * D * F) + 4 * T * D
    forward = B * T * (L * layer + 2 * D * V)
    assert counted["unrolled"]["products"] == 3 * forward


def test_scanned_layers_cost_what_unrolled_ones_do(counted):
    assert counted["scanned"] == counted["unrolled"]


def test_the_count_is_xlas_where_nothing_loops(steps, counted):
    step, *arguments = steps["unrolled"]
    xlas = jax.jit(step).lower(*arguments).cost_analysis()["flops"]
    assert counted["unrolled"].total() == pytest.approx(xlas, rel=0.1)


def test_additive_scores_have_the_products_of_dots_and_their_tanh_besides(counted):
    dot, additive = counted["unrolled"], counted["additive"]
    assert additive["products"] == dot["products"]
    pairs = L * B * T * T * D  # of queries and keys, each entry of each head
    assert additive["elementwise"] > dot["elementwise"] + 2 * pairs  # add and tanh
