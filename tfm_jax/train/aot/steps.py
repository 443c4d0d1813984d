"""The steps of a run with abstract arguments: of training, evaluation and decoding."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tfm_jax.decode.search import rows_mesh
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.mesh import batch_sharding, divided, row_multiple, using
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train import program
from tfm_jax.train.aot import decoding
from tfm_jax.train.aot.shapes import eval_batch, placed, train_batch
from tfm_jax.train.state import averaged
from tfm_jax.workloads.evaluator import apply, make_eval_step


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A jitted function that a run calls again and again.

    Attributes:
        function: jitted. arguments: of it, with their places.
        traced: the same, not jitted, with attention whose FLOPs can be counted.
        devices: that share its work. size: what it works on, in words.
        within: context in which it is traced.
        copies: it takes a copy of the parameters, not those of the training.
    """

    function: Any
    arguments: tuple
    traced: Callable
    devices: int
    size: str
    within: Callable
    copies: bool = False

    @functools.cached_property
    def lowered(self) -> jax.stages.Lowered:
        """For the devices of its arguments, which may be somewhere else."""
        with self.within():
            return self.function.lower(*self.arguments)

    def compile(self) -> jax.stages.Compiled:
        """For the same."""
        lowered = self.lowered
        with self.within():
            return lowered.compile()


def train_step(experiment: Experiment, mesh: Mesh) -> tuple[Step, Any]:
    """(step, state before it)."""
    within = functools.partial(using, experiment.mesh, mesh)
    with within():
        compiled = program.on_mesh(program.build(experiment), mesh)
        plain = program.build(countable(experiment)).train_step
    batch = train_batch(experiment, mesh)
    arguments = compiled.abstract, batch
    made = compiled.train_step, arguments, plain, mesh.size, _said(batch)
    return Step(*made, within), compiled.abstract


def eval_step(experiment: Experiment, mesh: Mesh, state: Any) -> Step:
    """Of the loss of held-out data, on the mesh of the training."""
    batch = eval_batch(experiment, mesh)
    within = functools.partial(using, experiment.mesh, mesh)
    model = functools.partial(apply, countable(experiment).build_model())
    plain = functools.partial(experiment.objective.eval_sums, model)
    arguments = averaged(state), batch
    made = make_eval_step(experiment), arguments, plain, mesh.size, _said(batch)
    return Step(*made, within)


def decode_step(experiment: Experiment, mesh: Mesh, state: Any) -> Step | None:
    """One token of what a model writes, or one step of what it draws; None: neither.

    Of a model that ``fsdp`` or ``tensor`` divides on the mesh of the training; of
    another on one device, as ``Evaluator.unrolled`` has it, or on each with a share of
    the sentences to be translated.
    Deviates: rows of a cache are divided as those of a batch, if they can be.
    """
    together = divided(state.params)
    begun = decoding.begin(experiment, 1 if together else mesh.size)
    if begun is None:
        return None
    flat = experiment._replace(
        model=dataclasses.replace(experiment.model, layout="unrolled")
    )
    if together:
        place, within = mesh, functools.partial(using, experiment.mesh, mesh)
        rows, count = batch_sharding(mesh), row_multiple(mesh)
    else:
        place = rows_mesh([mesh.devices.flat[0]])
        within = functools.partial(using, experiment.mesh, place, ())
        rows, count = NamedSharding(place, PartitionSpec()), 1
    with within():
        if together:
            params = program.build(flat).abstract(mesh).params
        else:
            params = placed(jax.eval_shape(to_unrolled, averaged(state)), rows)
        model, plain = flat.build_model(), countable(flat).build_model()
        inputs = begun.inputs(model, params)

    def put(x):
        divides = x.ndim and x.shape[0] and x.shape[0] % count == 0
        spec = rows.spec if divides else PartitionSpec()
        return placed(x, NamedSharding(place, spec))

    def step(model, params, *inputs):
        return model.apply({"params": params}, *inputs, **begun.options)

    function = jax.jit(functools.partial(step, model), donate_argnums=begun.donated)
    return Step(
        function,
        (params, *jax.tree.map(put, inputs)),
        functools.partial(step, plain),
        mesh.size if together else 1,
        begun.size,
        within,
        copies=not together or experiment.model.layout != "unrolled",
    )


def countable(experiment: Experiment) -> Experiment:
    """The same with plain attention, of equal results, whose FLOPs can be counted."""
    if not hasattr(experiment.model, "attention"):
        return experiment
    model = dataclasses.replace(experiment.model, attention="xla")
    return experiment._replace(model=model)


def _said(batch):
    """The shape of its largest array: tokens, or images."""
    shape = max((x.shape for x in jax.tree.leaves(batch)), key=math.prod)
    return " x ".join(map(str, shape))
