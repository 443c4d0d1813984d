"""The optimizer: a chain of optax transformations chosen by name."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from tfm_jax.config import Above, check_numbers, knob
from tfm_jax.optim import layerwise
from tfm_jax.optim.adafactor import scale_by_factored_rms
from tfm_jax.optim.schedules import SCHEDULES, learning_rate

# names of parameters (the last part of their path) that weight decay shrinks
DECAYED = {
    "kernels": ("kernel",),
    "kernels_and_tables": ("kernel", "table"),
    "all": (),  # every parameter, norms and biases included
}


class Optimizer(NamedTuple):
    """``build(config, rate, mask)``; ``decays``: it uses ``weight_decay``.

    Attributes:
        reads: fields of the section that have an effect, of those named here at all.
    """

    build: Callable
    decays: bool
    reads: tuple[str, ...] = ("b1", "b2", "eps")


def _adam(c, rate, mask):
    return optax.adam(rate, c.b1, c.b2, c.eps)


def _adamw(c, rate, mask):
    return optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay, mask=mask)


def _adafactor(c, rate, mask):
    clipped = layerwise.by_layer(optax.clip_by_block_rms(1.0))
    decays = optax.add_decayed_weights(c.weight_decay, mask)
    return optax.chain(
        scale_by_factored_rms(),
        optax.chain(clipped, decays) if c.weight_decay else clipped,
        optax.scale_by_learning_rate(rate),
    )


def _sgd(c, rate, mask):
    return optax.sgd(rate, momentum=c.b1)


def _nesterov(c, rate, mask):
    return optax.sgd(rate, momentum=c.b1, nesterov=True)


def _adadelta(c, rate, mask):
    return optax.adadelta(rate, rho=c.b2, eps=c.eps)


def _lion(c, rate, mask):
    return optax.lion(rate, c.b1, c.b2, weight_decay=c.weight_decay, mask=mask)


def _lamb(c, rate, mask):
    return optax.chain(
        optax.scale_by_adam(c.b1, c.b2, c.eps),
        optax.add_decayed_weights(c.weight_decay, mask),
        layerwise.by_layer(optax.scale_by_trust_ratio()),
        optax.scale_by_learning_rate(rate),
    )


def _bert_adam(c, rate, mask):
    return optax.chain(
        _scale_by_uncorrected_adam(c.b1, c.b2, c.eps),
        optax.add_decayed_weights(c.weight_decay, mask),
        optax.scale_by_learning_rate(rate),
    )


def _scale_by_uncorrected_adam(b1, b2, eps):
    """Updates m / (sqrt(v) + eps) of moments as they are, too small at first."""

    def init(params):
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates, state, params=None):
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return scaled, optax.ScaleByAdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def _clip_by_global_norm(most):
    """Shrinks all gradients alike so that their global norm is at most ``most``.

    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1. Deviates from optax's in
    that ``update`` can be told the norm, and multiplies where that divides, for which
    XLA on CPUs needs a pass of its own.
    """

    def update(updates, state, params=None, *, grad_norm=None, **unused):
        del params, unused
        norm = optax.tree.norm(updates) if grad_norm is None else grad_norm
        factor = most / jnp.maximum(norm, most)
        return jax.tree.map(lambda x: x * factor, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


OPTIMIZERS = {
    "adam": Optimizer(_adam, decays=False),  # Kingma and Ba 2015
    "adamw": Optimizer(_adamw, decays=True),  # Loshchilov and Hutter 2019
    "adafactor": Optimizer(_adafactor, decays=True, reads=()),  # Shazeer, Stern 2018
    "sgd": Optimizer(_sgd, decays=False, reads=("b1",)),  # momentum is b1
    # Sutskever et al. 2013, section 2, and, as here, of fairseq's NAG
    "nesterov": Optimizer(_nesterov, decays=False, reads=("b1",)),
    # Zeiler 2012, arXiv:1212.5701: rho is b2, of gradients and of updates
    "adadelta": Optimizer(_adadelta, decays=False, reads=("b2", "eps")),
    # AdamW without bias correction: Devlin et al. 2019, released optimization.py
    "bert_adam": Optimizer(_bert_adam, decays=True),
    "lamb": Optimizer(_lamb, decays=True),  # You et al. 2020, arXiv:1904.00962
    # Chen et al. 2023, arXiv:2302.06675
    "lion": Optimizer(_lion, decays=True, reads=("b1", "b2")),
}


def _reading(table, field):
    return tuple(name for name, row in table.items() if field in row.reads)


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults are Vaswani et al. 2017, section 5.3, for the base model."""

    ROLE = "training"

    optimizer: str = knob("adam", "update rule", choices=OPTIMIZERS)
    schedule: str = knob(
        "inverse_sqrt", "of the learning rate after warm-up", choices=SCHEDULES
    )
    peak_lr: float = knob(
        7e-4, "learning rate after warm-up; 512^-0.5 * 4000^-0.5", low=0
    )
    warmup_steps: int = knob(
        4_000, "updates in which the learning rate grows from 0", low=0
    )
    final_lr_fraction: float = knob(
        0.0, "of peak_lr, where the decay ends", low=0.0, high=1.0
    )
    cut_factor: float = knob(
        0.5, "of the rate, at each cut by step_decay or plateau", low=0, below=1
    )
    cut_after_steps: int = knob(50_000, "updates before the first cut", low=1)
    cut_every_steps: int = knob(10_000, "updates from one cut to the next", low=1)
    cut_patience: int = knob(
        1,
        "evaluations in a row without a lower validation loss, since the last cut, "
        "after which the rate is cut",
        low=1,
    )
    b1: float = knob(
        0.9, "decay of the first moment; momentum of sgd and nesterov", low=0, below=1
    )
    b2: float = knob(
        0.98, "decay of the second moment; rho of adadelta", low=0, below=1
    )
    eps: float = knob(
        1e-9,
        "added to the root of the second moment; by adadelta under it",
        low=0.0,
        high=1.0,
    )
    weight_decay: float = knob(0.0, "decoupled, times the learning rate", low=0)
    decay: str = knob(
        "kernels", "parameters that weight_decay shrinks", choices=DECAYED
    )
    clip_norm: float = knob(0.0, "global gradient norm; 0: not clipped", low=0)
    layer_decay: float = knob(1.0, "of the rate, from one layer to the one below it")
    lr_multipliers: tuple[str, ...] = knob(
        (), "REGEX=FACTOR, of the rate of parameters it matches"
    )

    READ_WITH = {
        ("optimizer", _reading(OPTIMIZERS, "b1")): ("b1",),
        ("optimizer", _reading(OPTIMIZERS, "b2")): ("b2",),
        ("optimizer", _reading(OPTIMIZERS, "eps")): ("eps",),
        ("schedule", _reading(SCHEDULES, "final_lr_fraction")): ("final_lr_fraction",),
        ("schedule", _reading(SCHEDULES, "cut_factor")): ("cut_factor",),
        ("schedule", _reading(SCHEDULES, "cut_after_steps")): (
            "cut_after_steps",
            "cut_every_steps",
        ),
        ("schedule", _reading(SCHEDULES, "cut_patience")): ("cut_patience",),
        ("weight_decay", Above(0)): ("decay",),
    }

    def __post_init__(self):
        if self.weight_decay and not OPTIMIZERS[self.optimizer].decays:
            able = tuple(name for name, row in OPTIMIZERS.items() if row.decays)
            raise ValueError(
                f"optim.weight_decay={self.weight_decay} has no effect with "
                f"optim.optimizer={self.optimizer!r}; set it to 0, or choose "
                f"optim.optimizer from ({', '.join(able)})"
            )
        check_numbers(self, "optim")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"optim.layer_decay={self.layer_decay} must be in (0, 1]")
        layerwise.parse(self.lr_multipliers)


def make_schedule(
    cfg: Config, total_steps: int, *, peak_lr: ArrayLike | None = None
) -> Callable[[ArrayLike], jax.Array]:
    """Learning rate as a function of the number of updates made so far.

    Args: peak_lr: instead of the configuration's, a number or a traced scalar.
    """
    return learning_rate(
        cfg.schedule,
        peak=cfg.peak_lr if peak_lr is None else peak_lr,
        warmup=cfg.warmup_steps,
        total=total_steps,
        final_fraction=cfg.final_lr_fraction,
        cut_factor=cfg.cut_factor,
        cut_after=cfg.cut_after_steps,
        cut_every=cfg.cut_every_steps,
    )


def make_optimizer(
    cfg: Config,
    total_steps: int,
    *,
    peak_lr: ArrayLike | None = None,
    freeze: str = "",
    **outside: Sequence[str],
) -> optax.GradientTransformation:
    """Gradient clipping, the optimizer under its schedule, factors of single rates.

    Args:
        freeze: regular expression of paths whose parameters get no update, and no
            state; their gradients do not count in the clipped norm.
        outside: ``below`` and ``above``, see ``layerwise.factors``.
    """
    wanted = DECAYED[cfg.decay]

    def mask(params):
        def decays(path, _):
            return not wanted or path[-1].key in wanted

        return jax.tree_util.tree_map_with_path(decays, params)

    rate = make_schedule(cfg, total_steps, peak_lr=peak_lr)
    parts = [OPTIMIZERS[cfg.optimizer].build(cfg, rate, mask)]
    if cfg.clip_norm:
        parts.insert(0, _clip_by_global_norm(cfg.clip_norm))
    if freeze:
        moved = optax.chain(*parts) if len(parts) > 1 else parts[0]
        which = functools.partial(layerwise.frozen, freeze)
        parts = [optax.partition({False: moved, True: optax.set_to_zero()}, which)]
    if cfg.layer_decay != 1.0 or cfg.lr_multipliers:  # of all layers, frozen ones too
        parts.append(layerwise.scale(cfg.layer_decay, cfg.lr_multipliers, **outside))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]
