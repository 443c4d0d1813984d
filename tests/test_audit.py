import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.layers.weights import normal
from tests.models.tiny import tiny
from tfm_jax.audit import Audit, audit, audit_transformer

V, D = 13, 8
PARAMS = {
    "table": normal(0, V, D),
    "places": 0.5 * normal(1, 32, D),
    "maps": 0.5 * normal(2, 6, D, D),
}


def softmax(logits, seen, bug):
    """Softmax over what is seen, sound or with one of the well-known faults."""
    dead = ~seen.any(-1, keepdims=True)
    if bug == "finite mask":  # a row without keys attends to all of them
        return jax.nn.softmax(logits - 1e9 * ~seen)
    if bug == "infinite mask":  # NaN
        return jax.nn.softmax(jnp.where(seen, logits, -jnp.inf))
    if bug == "NaN replaced":  # the value is replaced, its gradient is still NaN
        weights = jax.nn.softmax(logits + jnp.where(seen, 0.0, -jnp.inf))
        return jnp.where(dead, 0.0, weights)
    if bug == "mask after the softmax":  # leaks through the denominator
        return jax.nn.softmax(logits) * seen
    weights = jax.nn.softmax(jnp.where(seen | dead, logits, -jnp.inf))
    return jnp.where(dead, 0.0, weights)


def attend(x, memory, maps, seen, bug=""):
    logits = (x @ maps[0]) @ jnp.swapaxes(memory @ maps[1], 1, 2)
    return x + softmax(logits, seen, bug) @ (memory @ maps[2])


def embed(params, target):
    return params["table"][target]


def apply(params, source, visible, target, bug=""):
    """One layer of self- and cross-attention, written without our code."""
    table, places, maps = params["table"], params["places"], params["maps"]
    memory = table[source] + places[: source.shape[1]]
    visible = jnp.asarray(visible)[:, None]
    if bug == "padding is seen":
        visible = jnp.ones_like(visible)
    if bug == "mean over padding":
        memory = memory + memory.mean(1, keepdims=True)
    if bug == "positions from the right":
        memory = table[source] + places[source.shape[1] - 1 :: -1]
    t = jnp.arange(target.shape[1])
    late = {"no causal mask": 99, "one too many": 1}.get(bug, 0)
    past = (t <= t[:, None] + late)[None]
    if bug == "blind to the past":
        past = (t == t[:, None])[None]
    y = embed(params, target) if target.ndim == 2 else target
    y = attend(y + places[: len(t)], y, maps[:3], past, bug * ("after" in bug))
    if bug == "batch statistics":
        y = y - y.mean(0)
    y = attend(y, memory, maps[3:], visible, bug)
    return y @ table.T


def start(params, source, visible, length, bug=""):
    rows = np.zeros((len(source), length), np.int32)
    return source, visible, rows, 0


def step(params, tokens, cache, bug=""):
    source, visible, rows, t = cache
    rows = rows.copy()
    rows[:, t - (bug == "overwritten" and t > 2)] = tokens
    logits = apply(params, source, visible, rows)[:, t]
    return logits, (source, visible, rows, t + 1)


FAULTS = {
    "no causal mask": "look_ahead",
    "one too many": "look_ahead",
    "padding is seen": "padding",
    "mean over padding": "padding",
    "positions from the right": "padding",
    "batch statistics": "other_rows",
    "finite mask": "empty_source",
    "infinite mask": "empty_source",
    "NaN replaced": "gradients",
    "blind to the past": "past",
}


def audited(bug="", **options):
    planted = functools.partial(apply, bug=bug)
    return audit(planted, PARAMS, vocab=V, show=False, **options)


@pytest.mark.parametrize("by_gradient", [False, True])
def test_a_sound_model_of_anybody_passes(by_gradient, capsys):
    found = audit(
        apply,
        PARAMS,
        vocab=V,
        embed=embed if by_gradient else None,
        start=start,
        step=step,
    )
    assert found.passed, found
    assert all(check.measured is not None for check in found)
    lines = capsys.readouterr().out
    assert lines.count("pass") == len(Audit._fields)


@pytest.mark.parametrize("bug", FAULTS)
def test_a_planted_fault_is_found_by_the_check_it_belongs_to(bug):
    found = audited(bug)
    assert found.failed == [FAULTS[bug]], found
    assert not found.passed


def test_a_leak_through_the_denominator_is_found_on_both_sides():
    assert audited("mask after the softmax").failed == ["look_ahead", "padding"]


def test_looking_ahead_is_found_by_gradient_too():
    assert audited("one too many", embed=embed).failed == ["look_ahead"]


def test_a_cache_that_differs_from_the_forward_pass_is_found():
    broken = functools.partial(step, bug="overwritten")
    assert audited(start=start, step=broken).failed == ["cache"]


def test_every_check_has_a_planted_fault():
    assert {*FAULTS.values(), "cache"} == set(Audit._fields)


def test_what_could_not_be_checked_is_said(capsys):
    """A model without float parameters and without decoding steps."""
    closed = functools.partial(apply, PARAMS)
    found = audit(lambda _, *inputs: closed(*inputs), None, vocab=V)
    assert found.gradients.measured is found.cache.measured is None
    assert found.passed
    assert capsys.readouterr().out.count("not checked") == 2


def test_our_transformer_passes():
    changes = dict(positions="rotary", norm="pre", layout="scanned")
    changes |= dict(mask_style="after_renormalised", score="cosine")
    model, params = tiny(decoder_depth=1, **changes)
    found = audit_transformer(model, params, show=False)
    assert found.passed, found
    assert all(check.measured is not None for check in found)
