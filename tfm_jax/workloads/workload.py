"""Workload: a thing to learn, with its data, its objective and its evaluation."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from tfm_jax.config import ConfigError
from tfm_jax.data import cache, prepared
from tfm_jax.workloads.evaluator import Evaluator

TOKEN_SCORES = MappingProxyType({"nll": min, "accuracy": max})


class Workload(NamedTuple):
    """What a run learns: all that differs from one ``task`` to another.

    Attributes:
        name: value of ``task``.
        objective: has ``example``, ``loss_sum``, ``eval_sums`` and ``scores``, see
            `objectives`; and ``balance`` if there is an auxiliary loss.
        data: the kind of data, with the class of its section and its tokenizer.
        scores: score of an evaluation while training -> min or max, whichever is
            better. The first one is its own loss, by which checkpoints are ranked.
        has: (experiment, score) -> whether the evaluations of this run give it.
        whole: data section -> names of the scores of whole answers, which only the
            evaluation after training gives.
        auxiliary: ``train.auxiliary_weight`` weighs a second loss.
        evaluator: scores held-out data, see `Evaluator`.
        samples_by: methods of a model that ``eval.samples`` are drawn by.
        vocabularies: field of the model -> attribute of the tokenizer that fills it.
        longest: tokens of a row, of a data section.
        sentences: how many a row has, of a data section.
        tokens: how many of a batch the rate of training counts, padding left out.
        size: how much there is to train on, in words.
        defaults: section -> knobs that have other defaults than the section says, see
            ``settings.configure``.
        to_model_inputs: (experiment, batch) -> a batch as the model takes it.
    """

    name: str
    objective: Any
    data: prepared.Kind
    scores: Mapping[str, Callable] = TOKEN_SCORES
    has: Callable[[Any, str], bool] = lambda experiment, score: True
    whole: Callable[[Any], Iterable[str]] = lambda data: ()
    auxiliary: bool = False
    evaluator: type[Evaluator] = Evaluator
    samples_by: tuple[str, ...] = ()
    vocabularies: Mapping[str, str] = MappingProxyType({"vocab": "vocab"})
    longest: Callable[[Any], int] = lambda data: data.length
    sentences: Callable[[Any], int] = lambda data: 1
    tokens: Callable[[Any], int] = lambda batch: int((batch.segments > 0).sum())
    size: Callable[[prepared.Prepared], str] = lambda data: _tokens_in_rows(data.train)
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    to_model_inputs: Callable[[Any, Any], Any] = lambda experiment, batch: batch

    @property
    def tokenizer(self) -> Any:
        """Of its data, with ``load`` and ``to_json``."""
        return self.data.tokenizer.Tokenizer

    def prepare(
        self, experiment: Any, tokenizer: Any = None, **options: Any
    ) -> prepared.Prepared:
        """The data of an experiment, out of the user's cache if it was prepared.

        Args:
            tokenizer: trained if there is none yet.
            options: of ``prepared.prepare``; data of such a kind is not kept.
        Raises: DataError; ConfigError if the model has another number of labels.
        """
        sections = experiment.data, experiment.tokenizer
        if options:
            data = prepared.prepare(
                self.data, *sections, tokenizer=tokenizer, **options
            )
        else:
            directory = cache.home("data")
            data = cache.prepared(self.data, *sections, directory, tokenizer=tokenizer)
        names = data.report.get("train", {}).get("labels")
        model = getattr(experiment, "model", None)  # None: asked for the data alone
        if names is not None and model and model.labels != (len(names) or 1):
            raise ConfigError(
                f"model.labels={model.labels}, but the training data has "
                f"{len(names) or 'numbers, which need 1'}: {', '.join(names[:20])}"
            )
        return data

    def make_evaluator(
        self, experiment: Any, data: Any, mesh: jax.sharding.Mesh
    ) -> Evaluator:
        """Of the held-out data, and of the variants of it that the experiment has."""
        variants = {
            name: self.evaluator(variant, self.prepare(variant, data.tokenizer), mesh)
            for name, variant in experiment.variants().items()
        }
        return self.evaluator(experiment, data, mesh, variants)


def _tokens_in_rows(row_sets):
    tokens = sum(int((rows.segments > 0).sum()) for rows in row_sets)
    return f"{tokens:,} tokens in {sum(rows.shape[0] for rows in row_sets):,} rows"
