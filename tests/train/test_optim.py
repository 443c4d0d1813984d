import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax.tree_util import keystr

from tests.layers.weights import normal
from tests.models.tiny import shapes, tiny
from tfm_jax.train.optim import DECAYED, OPTIMIZERS, Config, make_optimizer
from tfm_jax.train.schedules import SCHEDULES

STEPS = 4
START = normal(0, 3, 4)
GRADS = normal(1, STEPS, 3, 4)


def constant(**changes):
    return Config(**(dict(schedule="constant", warmup_steps=0, peak_lr=0.1) | changes))


def trained(cfg, params, grads):
    """Parameters after one update for each of ``grads``."""
    optimizer = make_optimizer(cfg, 100)
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
}


@pytest.mark.parametrize("name", TORCH)
def test_optimizers_equal_torch(name):
    build, changes = TORCH[name]
    cfg = constant(optimizer=name, eps=1e-6, **changes)
    found = trained(cfg, {"kernel": START}, [{"kernel": g} for g in GRADS])
    weight = torch.tensor(START, requires_grad=True)
    reference = build([weight])
    for grad in GRADS:
        weight.grad = torch.tensor(grad)
        reference.step()
    np.testing.assert_allclose(found["kernel"], weight.detach(), atol=1e-5)


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
