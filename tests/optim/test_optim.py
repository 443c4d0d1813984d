import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax.tree_util import keystr

from tests.layers.weights import normal
from tests.models.tiny import shapes, tiny
from tfm_jax.layers.layout import to_scanned
from tfm_jax.optim.optimizers import DECAYED, OPTIMIZERS, Config, make_optimizer
from tfm_jax.optim.schedules import SCHEDULES

STEPS = 4
START = normal(0, 3, 4)
GRADS = normal(1, STEPS, 3, 4)


def constant(**changes):
    return Config(**(dict(schedule="constant", warmup_steps=0, peak_lr=0.1) | changes))


def trained(cfg, params, grads):
    """Parameters after one update for each of ``grads``."""
    optimizer = make_optimizer(cfg, 100, below=("embedding",))
    state = optimizer.init(params)
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params


TORCH = {
    "adam": (lambda p: torch.optim.Adam(p, 0.1, (0.9, 0.98), 1e-6), {}),
    "adamw": (
        lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.98), 1e-6, weight_decay=0.2),
        dict(weight_decay=0.2),
    ),
    "sgd": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), {}),
    "nesterov": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), {}),
    "adadelta": (lambda p: torch.optim.Adadelta(p, 0.1, rho=0.95), dict(b2=0.95)),
}


@pytest.mark.parametrize("name", TORCH)
def test_optimizers_equal_torch(name):
    build, changes = TORCH[name]
    cfg, grads = constant(optimizer=name, eps=1e-6, **changes), normal(1, 50, 3, 4)
    params = trained(cfg, {"kernel": START}, [{"kernel": g} for g in grads])
    weight = torch.tensor(START, requires_grad=True)
    reference = build([weight])
    for grad in grads:
        weight.grad = torch.tensor(grad)
        reference.step()
    np.testing.assert_allclose(params["kernel"], weight.detach(), atol=1e-5)


def test_nesterov_momentum_under_a_rate_that_is_cut_is_fairseqs():
    """fairseq, optim/nag.py: a buffer of steps, scaled when the rate changes."""
    cfg = constant(
        optimizer="nesterov", b1=0.99, schedule="step_decay",
        cut_factor=0.1, cut_after_steps=10, cut_every_steps=20,
    )  # fmt: skip
    grads = normal(1, 50, 3, 4)
    params = trained(cfg, {"kernel": START}, [{"kernel": g} for g in grads])
    x, buffer, before = START.astype(np.float64), 0.0, 0.1
    for i, grad in enumerate(grads):
        rate = 0.1 * 0.1 ** ((i >= 10) + (i >= 30))
        correct, before = rate / before, rate
        x = x + 0.99**2 * correct * buffer - (1 + 0.99) * rate * grad
        buffer = 0.99 * correct * buffer - rate * grad
    np.testing.assert_allclose(params["kernel"], x, atol=1e-4)


def test_berts_adam_is_that_of_its_release():
    """google-research/bert, optimization.py: no bias correction, decay in the rate."""
    cfg = constant(optimizer="bert_adam", b2=0.999, eps=1e-6, weight_decay=0.01)
    found = trained(cfg, {"kernel": START}, [{"kernel": g} for g in GRADS])
    x, m, v = START.astype(np.float64), 0.0, 0.0
    for grad in GRADS:
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        x = x - 0.1 * (m / (np.sqrt(v) + 1e-6) + 0.01 * x)
    np.testing.assert_allclose(found["kernel"], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    """On half the squared norm, whose gradient is the parameter."""
    cfg, params = constant(optimizer=name, peak_lr=0.02), {"kernel": jnp.asarray(START)}
    if name == "adadelta":  # whose rate is 1
        cfg = constant(optimizer=name, peak_lr=1.0, b2=0.95, eps=1e-6)
    optimizer = make_optimizer(cfg, 100)
    state = optimizer.init(params)
    for _ in range(10):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    assert np.linalg.norm(params["kernel"]) < 0.98 * np.linalg.norm(START)


@pytest.mark.parametrize("layout", ["unrolled", "scanned"])
@pytest.mark.parametrize(
    ("decay", "names"),
    [
        ("kernels", {"kernel"}),
        ("kernels_and_tables", {"kernel", "table"}),
        ("all", {"kernel", "table", "bias", "scale"}),
    ],
)
def test_weight_decay_shrinks_the_named_parameters_in_both_layouts(
    layout, decay, names
):
    """With a gradient of zero, decay is all that happens."""
    model, _ = tiny(layout=layout)
    tree = shapes(model.cfg)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    params = {keystr(path): {path[-1].key: jnp.ones(2)} for path, _ in leaves}
    cfg = constant(optimizer="adamw", weight_decay=0.5, decay=decay)
    found = trained(cfg, params, [jax.tree.map(jnp.zeros_like, params)])
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        wanted = 0.95 if path[-1].key in names else 1.0
        np.testing.assert_allclose(leaf, wanted, err_msg=str(path))
    assert {path[-1].key for path, _ in leaves} == {"kernel", "table", "bias", "scale"}
    assert set(DECAYED) == {"kernels", "kernels_and_tables", "all"}


@pytest.mark.parametrize("name", [n for n, row in OPTIMIZERS.items() if row.decays])
def test_weight_decay_is_scaled_by_the_learning_rate(name):
    """With a gradient of zero; LAMB's trust ratio divides by the norm of the decay."""
    cfg = constant(optimizer=name, peak_lr=0.01, weight_decay=0.5)
    params = {"kernel": START, "bias": START[0]}
    found = trained(cfg, params, [jax.tree.map(np.zeros_like, params)])
    factor = 0.99 if name == "lamb" else 0.995
    np.testing.assert_allclose(found["kernel"], factor * START, rtol=1e-5)
    np.testing.assert_array_equal(found["bias"], START[0])


def stack(seed, depth=2):
    """Arrays of a stack of layers whose sizes differ: [..., layer of 10^layer]."""

    def layer(i):
        draw = functools.partial(normal, seed + 10 * i)
        return jax.tree.map(
            lambda x: x * np.float32(10.0**i),
            {
                "attention": {"query": {"kernel": draw(130, 4, 40)}},
                "ffn": {"kernel": draw(130, 140)},
                "norm": {"scale": draw(8)},
            },
        )

    layers = {f"layer_{i}": layer(i) for i in range(depth)}
    return {"embedding": {"table": normal(seed, 7, 8)}, "stack": layers}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_layout_does_not_change_what_an_optimizer_does(name):
    """Norms, clipping and factors are those of each layer's own arrays."""
    decays = dict(weight_decay=0.1) if OPTIMIZERS[name].decays else {}
    cfg = constant(
        optimizer=name, peak_lr=0.01, clip_norm=2.0, layer_decay=0.5, **decays
    )
    params, grads = stack(0), [stack(1 + i) for i in range(5)]
    unrolled = trained(cfg, params, grads)
    scanned = trained(cfg, to_scanned(params), map(to_scanned, grads))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        to_scanned(unrolled),
        scanned,
    )


def test_adafactor_keeps_rows_and_columns_of_every_large_matrix():
    """Shazeer and Stern 2018, algorithm 4; attention kernels are matrices too."""
    params = {
        "query": {"kernel": normal(0, 130, 4, 40)},
        "out": {"kernel": normal(1, 4, 40, 130)},
        "small": {"kernel": normal(2, 130, 4, 8)},
        "bias": normal(3, 130),
    }
    cfg = constant(optimizer="adafactor", peak_lr=0.01)
    state = make_optimizer(cfg, 10).init(params)[0]
    rows, columns = (jax.tree.map(np.shape, x) for x in (state.v_row, state.v_col))
    assert {rows["query"]["kernel"], columns["query"]["kernel"]} == {(130,), (160,)}
    assert {rows["out"]["kernel"], columns["out"]["kernel"]} == {(130,), (160,)}
    assert state.v["small"]["kernel"].shape == (130, 4, 8)
    grad = normal(4, 130, 4, 40)
    found = trained(cfg, params["query"], [{"kernel": grad}])["kernel"]
    square = np.square(grad.reshape(130, 160).astype(np.float64))
    factored = square.mean(1)[:, None] * square.mean(0) / square.mean()
    update = grad / np.sqrt(factored).reshape(grad.shape)
    update /= max(1.0, np.sqrt(np.mean(update**2)))
    wanted = params["query"]["kernel"] - 0.01 * update
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_norm_of_the_whole_gradient():
    grads = {"a": {"kernel": 30.0 * GRADS[0]}, "b": {"bias": 40.0 * GRADS[1]}}
    params = jax.tree.map(np.zeros_like, grads)
    cfg = constant(optimizer="sgd", peak_lr=1.0, clip_norm=0.5)
    moved = trained(cfg, params, [grads])
    norm = optax.tree.norm(grads)
    jax.tree.map(
        lambda p, g: np.testing.assert_allclose(p, -0.5 * g / norm, rtol=1e-4),
        moved,
        grads,
    )
    optimizer = make_optimizer(cfg, 100)
    state = optimizer.init(params)
    updates, _ = optimizer.update(grads, state, params)
    told, _ = optimizer.update(grads, state, params, grad_norm=norm)
    jax.tree.map(np.testing.assert_array_equal, told, updates)
    small = jax.tree.map(lambda g: g * 1e-4, grads)
    moved = trained(cfg, params, [small])
    jax.tree.map(lambda p, g: np.testing.assert_allclose(p, -g), moved, small)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(weight_decay=0.1), "optim.weight_decay=0.1 has no effect with"),
        (dict(weight_decay=0.1), "'adam'; set it to 0, or choose optim.optimizer from"),
        (dict(peak_lr=-1.0), "optim.peak_lr"),
        (dict(b2=1.0), "optim.b2=1.0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_the_defaults_are_those_of_the_paper():
    """Vaswani et al. 2017, section 5.3."""
    cfg = Config()
    assert (cfg.optimizer, cfg.schedule) == ("adam", "inverse_sqrt")
    assert (cfg.b1, cfg.b2, cfg.eps, cfg.warmup_steps) == (0.9, 0.98, 1e-9, 4000)
    assert cfg.peak_lr == pytest.approx((512 * 4000) ** -0.5, rel=2e-3)
    assert cfg.schedule in SCHEDULES
