import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.layers.weights import normal
from tfm_jax.optim import plateau
from tfm_jax.optim.optimizers import Config


def factors(losses, **changes):
    """Of the learning rate after each evaluation."""
    observe = jax.jit(functools.partial(plateau.observe, Config(**changes)))
    state, lr_factors = plateau.start(), []
    for step, loss in enumerate(losses, 1):
        state = observe(state, step, loss)
        lr_factors.append(float(state.factor))
    return lr_factors


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_rate_is_cut_where_torch_cuts_it(patience):
    """``ReduceLROnPlateau``, whose patience is what it lets pass."""
    losses = np.round(np.linspace(2, 0, 40) + normal(0, 40), 1)  # some are equal
    losses[[5, 6]] = np.nan
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=0.0, eps=0.0
    )
    wanted = []
    for loss in losses:
        reference.step(loss)
        wanted += reference.get_last_lr()
    assert factors(losses, cut_factor=0.5, cut_patience=patience) == wanted
    assert 0 < wanted[-1] < 0.1


def test_a_loss_that_falls_is_left_alone_and_one_that_stalls_is_divided_by_ten():
    """Gehring et al. 2017: "by an order of magnitude", from a rate of 0.25."""
    lr_factors = factors([3, 2, 1, 1, 0.5, 0.6], cut_factor=0.1)
    np.testing.assert_allclose(lr_factors, [1, 1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_an_evaluation_counts_once():
    """Killed after it and before the next checkpoint, a run reads it again."""
    observe = functools.partial(plateau.observe, Config(cut_patience=2))
    state = observe(observe(plateau.start(), 4, 1.0), 8, 1.0)
    again = observe(state, 8, 1.0)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert observe(again, 12, 1.0).factor == 0.5


def test_each_member_of_a_population_has_a_rate_of_its_own():
    start = jax.tree.map(lambda x: jnp.stack([x, x]), plateau.start())
    observe = jax.vmap(functools.partial(plateau.observe, Config()), (0, None, 0))
    state = observe(observe(start, 4, jnp.ones(2)), 8, jnp.array([0.5, 1.5]))
    np.testing.assert_array_equal(state.factor, [1.0, 0.5])
