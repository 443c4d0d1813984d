"""Workload: a thing to learn, with its data, its objective and its evaluation."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from tfm_jax.config import ConfigError
from tfm_jax.data import cache, prepared
from tfm_jax.data.arrays.mapped_rows import tokens_of
from tfm_jax.data.errors import within
from tfm_jax.workloads.evaluator import Evaluator

TOKEN_SCORES = MappingProxyType({"nll": min, "accuracy": max})


class Workload(NamedTuple):
    """What a run learns: all that differs from one ``task`` to another.

    Attributes:
        name: value of ``task``.
        objective: has ``example``, ``loss_sum``, ``eval_sums`` and ``scores``, see
            `objectives`; and ``auxiliary_scale`` if there is an auxiliary loss.
        objective_of: experiment -> the same as its sections say; None: they do not.
        data: the kind of data, with the class of its section and its tokenizer.
        scores: score of an evaluation while training -> min or max, whichever is
            better. The first one is its own loss, by which checkpoints are ranked.
        has_score: (experiment, score) -> whether its evaluations, while training,
            give it.
        final_scores: (experiment, prepared data, split) -> names of the scores of whole
            answers, which the evaluation after training adds.
        compared: experiment -> other splits that scores of a split are compared with.
        auxiliary: ``train.auxiliary_weight`` weighs a second loss.
        smooths: ``train.label_smoothing`` changes its loss.
        evaluator: scores held-out data, see `Evaluator`.
        eval_knobs: those that its evaluator reads of the section ``eval``, and others
            do not, besides ``samples``.
        measured_with: knobs of role operation that scores depend on, besides all of
            ``eval`` but for ``samples``; a prefix for several.
        samples_by: methods of a model that ``eval.samples`` are drawn by.
        vocabularies: field of the model -> attribute of the tokenizer that fills it.
        labels: field of the model that is the number of labels of the data; "": none.
        check: raises ConfigError for an experiment whose parts do not fit.
        fits: raises ConfigError for an experiment that its prepared data is not for.
        check_new: like ``check``; runs of before were let begin.
        longest: tokens of a row, of a data section.
        sentences: how many a row has, of a data section.
        tokens: how many of a batch the rate of training counts, padding left out.
        counted: what ``tokens`` counts, in the plural.
        loss_unit: what the loss is measured in, in words.
        size: how much there is to train on, in words.
        defaults: section -> knobs that have other defaults than the section says, see
            ``settings.configure``.
    """

    name: str
    objective: Any
    data: prepared.Kind
    scores: Mapping[str, Callable] = TOKEN_SCORES
    has_score: Callable[[Any, str], bool] = lambda experiment, score: True
    final_scores: Callable[[Any, Any, str], Iterable[str]] = lambda *_: ()
    compared: Callable[[Any], tuple[str, ...]] = lambda experiment: ()
    auxiliary: bool = False
    smooths: bool = True
    evaluator: type[Evaluator] = Evaluator
    eval_knobs: tuple[str, ...] = ()
    measured_with: tuple[str, ...] = ()
    samples_by: tuple[str, ...] = ()
    vocabularies: Mapping[str, str] = MappingProxyType({"vocab": "vocab"})
    labels: str = ""
    check: Callable[[Any], None] = lambda experiment: None
    fits: Callable[[Any, prepared.Prepared], None] = lambda experiment, data: None
    check_new: Callable[[Any], None] = lambda experiment: None
    longest: Callable[[Any], int] = lambda data: data.length
    sentences: Callable[[Any], int] = lambda data: 1
    tokens: Callable[[Any], int] = lambda batch: int((batch.segments > 0).sum())
    counted: str = "tokens"
    loss_unit: str = "nats per target token"
    size: Callable[[prepared.Prepared], str] = lambda data: _tokens_in_rows(data.train)
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    objective_of: Callable[[Any], Any] | None = None

    @property
    def tokenizer(self) -> Any:
        """Class of its data's tokenizer, with ``load`` and ``to_json``, or None."""
        return self.data.tokenizer and self.data.tokenizer.Tokenizer

    def score_of(self, metric: str) -> str:
        """The score that a knob names: ``loss`` is the workload's own."""
        return next(iter(self.scores)) if metric == "loss" else metric

    def prepare(
        self, experiment: Any, tokenizer: Any = None, **options: Any
    ) -> prepared.Prepared:
        """The data of an experiment, out of the user's cache if it was prepared.

        Args:
            tokenizer: trained if there is none yet.
            options: of ``prepared.prepare``; data of such a kind is not kept.
        Raises: DataError; ConfigError if the model has another number of labels, or
            is not for such data.
        """
        sections = experiment.data, experiment.tokenizer
        data = self.read(*sections, tokenizer, **options)
        if self.labels and "train" in data.report:
            names = data.report["train"]["labels"]
            count = getattr(experiment.model, self.labels)
            if count != (len(names) or 1):
                raise ConfigError(
                    f"model.{self.labels}={count}, but the training data has "
                    f"{len(names) or 'numbers, which need 1'}: {', '.join(names[:20])}"
                )
        self.fits(experiment, data)
        return data

    def read(
        self, cfg: Any, tokenizer_cfg: Any, tokenizer: Any = None, **options: Any
    ) -> prepared.Prepared:
        """``prepare`` of the sections of data and tokenizer, for whatever model."""
        sections = self.data, cfg, tokenizer_cfg
        if options:
            return prepared.prepare(*sections, tokenizer=tokenizer, **options)
        return cache.prepared(*sections, cache.home("data"), tokenizer=tokenizer)

    def make_evaluator(
        self, experiment: Any, data: Any, mesh: jax.sharding.Mesh, judge: Any = None
    ) -> Evaluator:
        """Of the held-out data, and of the variants of it that the experiment has.

        Args: judge: of images that are drawn, see `Evaluator`.
        """
        variants = {}
        for name, variant in experiment.variants().items():
            with within(f"eval.variants, {name!r}"):
                held_out = self.prepare(variant, data.tokenizer)
            variants[name] = self.evaluator(variant, held_out, mesh, judge=judge)
        return self.evaluator(experiment, data, mesh, variants, judge)


def _tokens_in_rows(row_sets):
    tokens = sum(map(tokens_of, row_sets))
    return f"{tokens:,} tokens in {sum(rows.shape[0] for rows in row_sets):,} rows"
