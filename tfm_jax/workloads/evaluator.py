"""Evaluation on held-out data: the loss, samples, and scores of whole answers."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.data.batches import eval_batches
from tfm_jax.data.tokenizers import unknown
from tfm_jax.decode.search import rows_mesh
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.mesh import (
    RULES,
    divided,
    fetch,
    on_this_host,
    put_whole,
    row_multiple,
    using,
)
from tfm_jax.metrics.confusion import Confusion

Poll = Callable[[], object]  # called between batches; it may raise


def apply(
    model: nn.Module,
    params: Mapping[str, Any],
    *inputs: Any,
    rng: jax.Array | None,
    train: bool,
    method: str = "__call__",
) -> Any:
    """``model`` as an objective takes it: a function of parameters and a batch.

    Args: method: of the model, which may take other ``inputs``.
    """
    rngs = {} if rng is None else {"dropout": rng}
    return model.apply(
        {"params": params}, *inputs, train=train, rngs=rngs, method=method
    )


def make_eval_step(experiment: Any) -> Callable:
    """Jitted ``eval_step(params, batch) -> sums`` of the objective."""
    model = functools.partial(apply, experiment.build_model())
    return jax.jit(functools.partial(experiment.objective.eval_sums, model))


def scores_of(objective: Any, totals: Any, report: Mapping[str, Any]) -> dict:
    """``totals`` of a split as scores.

    With ``chance``, the accuracy of the best guess, where the report of the split says
    it, and the words it is of are the tokens that are predicted: not their letters, nor
    the text around them, nor what the tokenizer does not know.
    """
    guessed = report.get("answer_words") == report.get("target_tokens")
    guessed = guessed and not any(
        share
        for side, share in unknown.shares(report).items()
        if side in ("", "target")
    )
    known = guessed and "chance" in report
    chance = {"chance": report["chance"]} if known else {}
    return objective.scores(totals, report) | chance


class Scored(NamedTuple):
    """What is known of a split after training.

    Attributes:
        scores: name -> number, or text such as a signature; {} if the split is empty.
        lines: some answers, for people. files: name -> text of all of them, kept
            as ``NAME-SPLIT``, or under the name of the variant.
        confusion: of classes, for a picture; None of other answers.
        images: [N, H, W, C] uint8 that the model has drawn, or None.
    """

    scores: dict
    lines: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    confusion: Confusion | None = None
    images: np.ndarray | None = None


class Evaluator:
    """Scores parameters on the held-out data of one experiment.

    Attributes:
        variants: name -> evaluator of the validation data read in another way.
        judge: ``Judge`` of the images that the model draws, or None.
    """

    def __init__(
        self,
        experiment: Any,
        data: Any,
        mesh: jax.sharding.Mesh,
        variants: Mapping[str, Any] | tuple[()] = (),
        judge: Any = None,
    ) -> None:
        self.experiment, self.data, self.mesh = experiment, data, mesh
        self.cfg = experiment.eval
        self.eval_step = make_eval_step(experiment)
        self.variants, self.judge = dict(variants), judge
        self.setup()

    def setup(self) -> None:
        """What some evaluators need besides. Raises: DataError, ConfigError."""

    @property
    def pictured(self) -> tuple | None:
        """(model, tokenizer, source, target) whose attention is drawn, or None."""
        return None

    def during(
        self, params: dict[str, Any], *, poll: Callable[[], object] = lambda: None
    ) -> tuple[dict, Mapping[str, str] | np.ndarray]:
        """(scores of the validation data, samples).

        These are number -> text, or images [N, H, W, C] uint8.
        """
        return self.loss(params, "valid", poll=poll), {}

    def final(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> Scored:
        """All scores of a split, those of whole answers too."""
        totals = self.totals(params, split, poll=poll)
        scores = self.scores(totals, split)
        if not scores:
            return Scored({})
        return self.add_scores(params, split, scores, totals, poll)

    def add_scores(
        self, params: dict[str, Any], split: str, scores: dict, totals: Any, poll: Poll
    ) -> Scored:
        """``scores`` of the ``totals`` of a split, with those of whole answers."""
        return Scored(scores)

    def batches(self, split: str) -> Iterator[Any]:
        """Every row of a split once."""
        return eval_batches(
            self.data,
            split,
            batch_tokens=self.cfg.batch_tokens,
            row_multiple=row_multiple(self.mesh),
        )

    def loss(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> dict:
        """What ``scores`` of the objective says; {} if the split is empty."""
        return self.scores(self.totals(params, split, poll=poll), split)

    def scores(self, totals: Any, split: str) -> dict:
        """``totals`` of a split as scores; {} if there are none."""
        report = self.data.report.get(split, {})
        return scores_of(self.experiment.objective, totals, report) if totals else {}

    def totals(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> Any:
        """Sums of ``eval_sums`` of the objective; None if the split is empty.

        Every prediction target counts once, whatever the batches are.
        """
        totals = None
        for batch in self.batches(split) if getattr(self.data, split) else ():
            poll()
            sums = self.eval_step(params, put_whole(self.mesh, batch))
            sums = fetch(sums)
            totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
        return totals

    @contextlib.contextmanager
    def unrolled(
        self, params: dict[str, Any]
    ) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
        """(model, parameters), unrolled, for functions of ``decode``.

        Where each device has all parameters they are on one device; where it has a
        share, ``mesh.fsdp`` or ``mesh.tensor``, they stay on the mesh of the training,
        and no device ever has more. With several processes all must call it.
        """
        mesh, rules = self.mesh, RULES
        if not divided(params):
            mesh, rules = rows_mesh(jax.local_devices()[:1]), ()
            params = jax.device_put(on_this_host(params), mesh.devices.flat[0])
        with using(self.experiment.mesh, mesh, rules):
            yield self.experiment.build_model(layout="unrolled"), to_unrolled(params)
