"""Program: the pure functions that a run consists of, built from its configuration."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.typing import ArrayLike

from tfm_jax.config import ConfigError
from tfm_jax.layers.layout import abstract, init_params
from tfm_jax.mesh import shardings
from tfm_jax.models import MODELS
from tfm_jax.ops.attention import not_here
from tfm_jax.optim import layerwise
from tfm_jax.optim.optimizers import make_optimizer, make_schedule
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train.state import TrainState, init_state
from tfm_jax.train.step import make_gradients, make_train_step
from tfm_jax.workloads.evaluator import apply


class Program(NamedTuple):
    """Functions that are not yet jitted.

    Attributes:
        init: ``init(seed) -> TrainState`` before the first step; one program for all
            seeds, so that it is compiled for the first of them.
        shapes: ``shapes() -> TrainState``, shape and dtype of every array of it.
        gradients: ``gradients(state, batch) -> (loss, weight, gradients)``.
        train_step: ``train_step(state, batch) -> (state, metrics)``.
        specs: logical axes of the parameters, of all programs with that model.
    """

    init: Callable
    shapes: Callable
    gradients: Callable
    train_step: Callable
    specs: dict

    def abstract(self, mesh: jax.sharding.Mesh) -> TrainState:
        """Shape, dtype and place of every array of the state."""
        shapes = self.shapes()
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            shapes,
            shardings(mesh, shapes, self.specs),
        )


class Compiled(NamedTuple):
    """The program on a mesh; each function is compiled at its first call.

    Attributes:
        init, train_step: of ``Program``, jitted; the old state is donated.
        abstract: shape, dtype and sharding of every array of the state.
        placed: their shardings alone.
    """

    init: Callable
    train_step: Callable
    abstract: TrainState
    placed: TrainState


def on_mesh(functions: Program, mesh: jax.sharding.Mesh) -> Compiled:
    """``functions``, jitted for the devices of ``mesh``."""
    abstract = functions.abstract(mesh)
    placed = jax.tree.map(lambda x: x.sharding, abstract)
    init = jax.jit(functions.init, out_shardings=placed)
    train_step = jax.jit(
        functions.train_step, donate_argnums=0, out_shardings=(placed, None)
    )
    return Compiled(init, train_step, abstract, placed)


def build(experiment: Experiment, *, peak_lr: ArrayLike | None = None) -> Program:
    """The program of ``experiment``, whose vocabularies must be filled in.

    Args: peak_lr: instead of the configuration's; may be traced.
    Raises: ConfigError if the platform cannot run it.
    """
    if problem := not_here(experiment.model.attention):
        raise ConfigError(problem)
    model, cfg = experiment.build_model(), experiment.train
    objective = experiment.objective
    freeze = "|".join(experiment.frozen)
    family = MODELS[experiment.model_name]
    optimizer = make_optimizer(
        experiment.optim,
        cfg.total_steps,
        peak_lr=peak_lr,
        freeze=freeze,
        below=family.below,
        above=family.above,
    )

    state_of = functools.partial(
        init_state,
        optimizer=optimizer,
        ema=cfg.ema_decay > 0,
        freeze=freeze,
        watched=cfg.skip_sigma > 0,
        annealed=SCHEDULES[experiment.optim.schedule].watches,
    )
    params_shapes, specs = _abstract(model, objective.example)

    def init(seed):
        key = jax.random.key(seed)
        params = init_params(model, key, objective.example())
        return state_of(params, seed=seed)

    def shapes():
        return jax.eval_shape(state_of, params_shapes, seed=0)

    options = dict(smoothing=cfg.label_smoothing, train=True)
    auxiliary_scale = None
    if experiment.workload.auxiliary:
        options["auxiliary"] = cfg.auxiliary_weight
        auxiliary_scale = objective.auxiliary_scale

    def run(params, *inputs, **options):
        return apply(model, layerwise.hold(freeze, params), *inputs, **options)

    loss_sum = functools.partial(objective.loss_sum, run, **options)
    allreduce = experiment.mesh.gradient_allreduce
    gradients = make_gradients(loss_sum, auxiliary_scale, allreduce)
    train_step = make_train_step(
        gradients,
        optimizer,
        make_schedule(experiment.optim, cfg.total_steps, peak_lr=peak_lr),
        ema_decay=cfg.ema_decay,
        skip_limit=cfg.skip_limit,
        skip_sigma=cfg.skip_sigma,
    )
    return Program(init, shapes, gradients, train_step, specs)


@functools.lru_cache(maxsize=16)  # many runs of a process have one model
def _abstract(model, example):
    return abstract(model, example())
