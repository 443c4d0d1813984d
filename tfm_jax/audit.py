"""Audit of a sequence-to-sequence model, ours or anybody's: does it see too much?

The faults it looks for train well and report fine losses: a decoder that looks ahead,
padding that is attended to, a row without visible tokens that poisons the gradients,
decoding steps that disagree with the training-time forward pass.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import Console
from rich.table import Table

from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.layout import to_unrolled

ROWS = 8  # of every batch that is not about the number of rows
MORE = 3  # columns of additional padding


class Check(NamedTuple):
    """One claim about the model and what was measured.

    Attributes:
        claim: what a sound model does.
        measured: largest change of a logit that must not change, in standard deviations
            of the logits (of a gradient, in its largest entry); inf if a number is not
            finite; None if the check could not be made.
        limit: ``measured`` passes up to here; from here, if ``moves``.
        moves: the claim is that something changes.
    """

    claim: str
    measured: float | None
    limit: float
    moves: bool = False

    @property
    def passed(self) -> bool:
        """True also if the check could not be made."""
        if self.measured is None:
            return True
        if self.moves:
            return self.limit < self.measured < np.inf
        return self.measured <= self.limit


class Audit(NamedTuple):
    """All checks of one model."""

    past: Check
    look_ahead: Check
    padding: Check
    other_rows: Check
    empty_source: Check
    gradients: Check
    cache: Check

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [name for name in self._fields if not getattr(self, name).passed]

    def show(self) -> None:
        """Prints the verdicts as a table."""
        table = Table("check", "claim", "measured", "limit", "verdict")
        for name, check in zip(self._fields, self, strict=True):
            verdict = "[green]pass" if check.passed else "[bold red]FAIL"
            if check.measured is None:
                verdict, measured = "not checked", "-"
            else:
                measured = f"{check.measured:.1e}"
            limit = f"{'>' if check.moves else '<='} {check.limit:.0e}"
            words = name.replace("_", " ")
            table.add_row(words, check.claim, measured, limit, verdict)
        Console().print(table)


def audit(
    apply: Callable,
    params: Any,
    *,
    vocab: int,
    source_length: int = 7,
    target_length: int = 6,
    embed: Callable | None = None,
    start: Callable | None = None,
    step: Callable | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
    show: bool = True,
) -> Audit:
    """Measures what the outputs and gradients of a model depend on.

    Args:
        apply: ``apply(params, source, visible, target) -> logits [B, T, V]`` without
            dropout. source: [B, S] int32 in [1, vocab). visible: [B, S] bool, False at
            padding, which has tokens like any other. target: [B, T] int32, the
            decoder's inputs. A model without a source ignores the first two.
        params: what ``apply`` takes; gradients are checked if it holds float arrays.
        vocab: tokens are drawn below it.
        embed: ``embed(params, target) -> [B, T, D]``, if ``apply`` also takes these
            vectors as its ``target``: looking ahead is then measured by gradient, and
            by changing tokens otherwise.
        start: ``start(params, source, visible, length) -> cache`` for ``length`` steps.
        step: ``step(params, tokens [B], cache) -> (logits [B, V], cache)``, at the next
            position.
        tolerance: relative; some 0.05 for a model in bfloat16.
        show: print a table of verdicts.
    """
    draw = np.random.default_rng(seed)

    def tokens(length):
        return draw.integers(1, vocab, (ROWS, length), dtype=np.int32)

    run = functools.partial(_logits, apply, params)
    source, target = tokens(source_length), tokens(target_length)
    # sentences of all lengths, the longest one without padding
    lengths = np.maximum(source_length - np.arange(ROWS) % source_length, 1)
    visible = np.arange(source_length) < lengths[:, None]
    logits = run(source, visible, target)

    other_first = target.copy()
    other_first[:, 0] = target[:, 0] % (vocab - 1) + 1
    past = _change(run(source, visible, other_first)[:, -1], logits[:, -1])

    if embed is None:
        ahead = _ahead_by_token(run, source, visible, target, tokens(target_length))
    else:
        ahead = _ahead_by_gradient(apply, params, embed, source, visible, target)

    garbage = np.where(visible, source, tokens(source_length))
    longer = np.concatenate([garbage, tokens(MORE)], axis=1)
    and_hidden = np.pad(visible, ((0, 0), (0, MORE)))
    padding = max(
        _change(run(garbage, visible, target), logits),
        _change(run(longer, and_hidden, target), logits),
    )

    first = (np.arange(ROWS) < 2)[:, None]
    among_others = run(
        np.where(first, source, tokens(source_length)),
        np.where(first, visible, visible[::-1]),
        np.where(first, target, tokens(target_length)),
    )
    other_rows = _change(among_others[:2], logits[:2])

    # the second half of the batch has nothing to see
    none = visible & (np.arange(ROWS) < ROWS // 2)[:, None]
    half = run(source, none, target)
    empty = 0.0 if np.isfinite(half).all() else np.inf
    if padding <= tolerance:  # otherwise hidden tokens are seen anyway
        replaced = np.where(none, source, tokens(source_length))
        empty = max(empty, _change(run(replaced, none, target), half))

    gradients = None
    if empty <= tolerance and _has_floats(params):
        gradients = _poison(
            functools.partial(_gradient, apply, params, target=target),
            (source, none),
            (source, visible),
            compare=other_rows <= tolerance,
        )

    cache = None
    if start is not None and step is not None:
        state, steps = start(params, source, visible, target_length), []
        for t in range(target_length):
            now, state = step(params, target[:, t], state)
            steps.append(np.asarray(now, np.float64))
        cache = _change(np.stack(steps, 1), logits)

    found = Audit(
        Check("the last logits depend on the first token", past, tolerance, moves=True),
        Check("logits do not depend on later target tokens", ahead, tolerance),
        Check("nor on hidden source tokens or their number", padding, tolerance),
        Check("nor on the other rows of the batch", other_rows, tolerance),
        Check("a row that sees no source is finite", empty, tolerance),
        Check("and does not disturb any gradient", gradients, tolerance),
        Check("decoding step by step gives the same logits", cache, tolerance),
    )
    if show:
        found.show()
    return found


def audit_transformer(
    model: nn.Module, params: dict[str, Any], **options: Any
) -> Audit:
    """Audits our own model; ``options`` are those of ``audit``."""
    params = to_unrolled(params)
    cfg = dataclasses.replace(model.cfg, layout="unrolled")
    model = model.clone(cfg=cfg)

    def call(params, *inputs, **arguments):
        return model.apply({"params": params}, *inputs, **arguments)

    @jax.jit
    def apply(params, source, visible, target):
        segments = jnp.asarray(visible, jnp.int32)
        ones = jnp.ones(target.shape, jnp.int32)
        batch = PairBatch(source, segments, None, target, target, ones, None)
        return call(params, batch, train=False)

    @functools.partial(jax.jit, static_argnums=3)
    def start(params, source, visible, length):
        segments = jnp.asarray(visible, jnp.int32)
        memory = call(params, source, segments, train=False, method="encode")
        return call(
            params, memory, segments, width=1, max_length=length, method="init_cache"
        )

    @jax.jit
    def step(params, tokens, cache):
        logits, cache = call(params, tokens[:, None], cache, method="step")
        return logits[:, 0], cache

    rough = cfg.dtype != "float32"
    defaults = dict(
        vocab=min(cfg.source_vocab, cfg.target_vocab), tolerance=0.05 if rough else 1e-4
    )
    return audit(apply, params, start=start, step=step, **(defaults | options))


def _logits(apply, params, source, visible, target):
    return np.asarray(apply(params, source, visible, target), np.float64)


def _change(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference in standard deviations of ``wanted``; inf if not finite."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return np.inf
    return float(np.abs(found - wanted).max() / max(wanted.std(), 1e-30))


def _ahead_by_token(
    run: Callable,
    source: np.ndarray,
    visible: np.ndarray,
    target: np.ndarray,
    others: np.ndarray,
) -> float:
    """Change of the logits before s if all tokens from s on are others."""
    base, length, worst = run(source, visible, target), target.shape[1], 0.0
    for s in range(1, length):
        changed = np.where(np.arange(length) < s, target, others)
        after = run(source, visible, changed)
        worst = max(worst, _change(after[:, :s], base[:, :s]))
    return worst


def _ahead_by_gradient(
    apply: Callable,
    params: Any,
    embed: Callable,
    source: np.ndarray,
    visible: np.ndarray,
    target: np.ndarray,
) -> float:
    """Largest derivative of logits before s by the vectors from s on, relative."""
    vectors = embed(params, target)
    logits, pull = jax.vjp(lambda x: apply(params, source, visible, x), vectors)
    readout = np.random.default_rng(0).normal(size=logits.shape[-1])
    worst = 0.0
    for t in range(logits.shape[1]):
        cotangent = jnp.zeros_like(logits).at[:, t].set(readout)
        grad = np.abs(np.asarray(pull(cotangent)[0], np.float64))
        if not np.isfinite(grad).all():
            return np.inf
        ahead = grad[:, t + 1 :].max(initial=0.0)
        worst = max(worst, float(ahead / max(grad.max(), 1e-30)))
    return worst


def _has_floats(params: Any) -> bool:
    leaves = jax.tree.leaves(params)
    return any(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves)


def _gradient(apply, params, source, visible, *, target):
    """Gradient of a loss over the rows of the first half."""

    def loss(params):
        logits = apply(params, source, visible, target)[: ROWS // 2]
        return jnp.sum(jnp.sin(logits.astype(jnp.float32)))

    return jax.grad(loss, allow_int=True)(params)


def _poison(
    gradient: Callable, with_empty: tuple, without: tuple, *, compare: bool
) -> float:
    """Change of a gradient by rows outside of its loss that see nothing."""
    worst = 0.0
    pairs = (jax.tree.leaves(gradient(*rows)) for rows in (with_empty, without))
    for found, wanted in zip(*pairs, strict=True):
        if found.dtype == jax.dtypes.float0:
            continue
        found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
        if not np.isfinite(found).all():
            return np.inf
        if compare:
            scale = max(np.abs(wanted).max(initial=0.0), 1e-3)
            worst = max(worst, float(np.abs(found - wanted).max(initial=0.0) / scale))
    return worst
