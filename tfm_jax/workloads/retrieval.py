"""Image-text retrieval: the text for an image, and the image for a text."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.config import ConfigError, knob, no_choice
from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.data.rows import image_text
from tfm_jax.data.sources.turns import Example, ImageTexts, Turn
from tfm_jax.data.tokenizers import unknown
from tfm_jax.mesh import fetch
from tfm_jax.objectives import retrieval
from tfm_jax.objectives.retrieval import NEGATIVES, OBJECTIVES
from tfm_jax.workloads import visual_lm
from tfm_jax.workloads.evaluator import Poll, Scored, apply
from tfm_jax.workloads.workload import Workload

AT = (1, 5, 10)  # how many answers may be given, of which one must be right
RETRIEVED = ("text", "image")  # for the other one
AT_ONCE = 64  # pairs
SHOWN = 5  # texts that are written
# most similar candidates, which matching reranks; Li et al. 2023,
# arXiv:2301.12597, section 4.4
CANDIDATES = 128


@dataclasses.dataclass(frozen=True)
class Config(image_text.Config):
    """Where images and texts come from, and what is learnt of them."""

    objectives: tuple[str, ...] = knob(
        OBJECTIVES,
        "the sum of these is minimised: contrastive, matching, generation",
        role="training",
    )
    negatives: str = knob(
        "hard",
        "of matching, drawn from the batch: by similarity, or uniformly",
        role="training",
        choices=NEGATIVES,
    )

    def __post_init__(self):
        super().__post_init__()
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ConfigError(no_choice("data.objectives", name, OBJECTIVES))
        if not 0 < len({*self.objectives}) == len(self.objectives):
            raise ConfigError(
                f"data.objectives={self.objectives} must name some of {OBJECTIVES}, "
                "each once"
            )


class RetrievalEvaluator(visual_lm.WritingEvaluator):
    """Scores retrieval and captions, too, of ``eval.samples`` pairs."""

    def add_scores(
        self, params: dict[str, Any], split: str, scores: dict, totals: Any, poll: Poll
    ) -> Scored:
        """``scores``, the recall of texts and of images, and scores of captions."""
        objectives, most = self.experiment.data.objectives, self.cfg.samples
        lines, files = [], {}
        if _retrieves(self.experiment):
            pool = self.pool(split)
            with self.unrolled(params) as parts:
                scores |= recalls(
                    *parts, pool, matches="matching" in objectives, poll=poll
                )
            lines += [
                f"recall among {len(pool.tokens):,} pairs whose texts all differ, of "
                f"{int(totals['pairs']):,}"
            ]
        if _writes(self.experiment):
            of_texts, shown = self.written(params, split, most, poll)
            scores |= of_texts
            lines += [f"texts of {len(shown):,} images", *shown[:SHOWN]]
            files = visual_lm.answers_file(shown)
        return Scored(scores, tuple(lines), files)

    def pool(self, split: str) -> ImageTextBatch:
        """The first pairs of a split of which no two texts are equal."""
        texts: dict[bytes, Any] = {}
        for batch in self.batches(split):
            there = batch.weights.any(axis=-1) & (batch.image_counts > 0)
            for row in np.flatnonzero(there):
                if len(texts) < self.cfg.samples:
                    pair = jax.tree.map(lambda x, row=row: x[row], batch)
                    texts.setdefault(batch.tokens[row].tobytes(), pair)
        return jax.tree.map(lambda *rows: np.stack(rows), *texts.values())


def recalls(
    model: Any,
    params: Any,
    pool: ImageTextBatch,
    *,
    matches: bool,
    poll: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Recall at ``AT`` of texts and of images in a pool of pairs, in [0, 1].

    Args: model, params: see ``Evaluator.unrolled``. matches: whether the model has
        learnt matching, which then reranks the ``CANDIDATES``. poll: called between
        batches.
    """
    parts = model, params, pool.images[:, 0], TextBatch(pool.tokens, pool.segments)
    cosines = similarities(*parts, poll=poll)
    by = {"": (cosines, cosines.T)}
    if matches:
        chosen = of_images, of_texts = candidates(cosines, CANDIDATES)
        scores = match_scores(*parts, cosines, np.logical_or(*chosen), poll=poll)
        hidden = -np.inf
        by["reranked_"] = (
            np.where(of_images, scores, hidden),
            np.where(of_texts, scores, hidden).T,
        )
    return {
        f"{kind}{_recall(name, k)}": float(np.mean(ranks(each) < k))
        for kind, both in by.items()
        for name, each in zip(RETRIEVED, both, strict=True)
        for k in AT
    }


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank [pairs] of the diagonal in each row of scores [pairs, pairs], from 0.

    It is behind all that have the same score.
    """
    return np.sum(scores >= np.diagonal(scores)[:, None], axis=1) - 1


def candidates(cosines: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether cosines are among the ``count`` largest of their row, of their column.

    Args: cosines: [images, texts]. Returns: two arrays of that shape, bool.
    """

    def largest(scores):
        last = max(scores.shape[1] - count, 0)
        order = np.argsort(scores, axis=1, kind="stable")
        chosen = np.zeros(scores.shape, bool)
        np.put_along_axis(chosen, order[:, last:], True, axis=1)
        return chosen

    return largest(cosines), largest(cosines.T).T


def match_scores(
    model: Any,
    params: Any,
    images: np.ndarray,
    texts: TextBatch,
    cosines: np.ndarray,
    chosen: np.ndarray,
    *,
    poll: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Logit of a match plus cosine [images, texts] of ``chosen`` pairs; others: NaN.

    Source: Li et al. 2023, section 4.4, the sum as in the released code (LAVIS).
    Deviates: no.
    Args: chosen: [images, texts] bool. Others: see ``similarities``, which gives the
        ``cosines``.
    """
    scores = np.full(cosines.shape, np.nan, np.float32)
    size = min(len(images), AT_ONCE)
    for first in range(0, len(images), size):
        here = np.arange(first, first + size)
        of_images, of_texts = np.nonzero(chosen[first : first + size])
        if len(of_images):
            numbers = np.minimum(here, len(images) - 1)
            states = _states(model, params, images[numbers, None])
            pairs = of_images, jax.tree.map(lambda x, n=of_texts: x[n], texts)
            of_pairs = functools.partial(_matches, states)
            logits = _batched(of_pairs, model, params, pairs, poll)
            scores[of_images + first, of_texts] = logits
    return scores + cosines


def text_rows(cfg: Any, tokenizer: Any, texts: Sequence[str]) -> TextBatch:
    """Texts as a run reads them, whatever image they belong to.

    Raises: DataError for one that is longer than its rows.
    """
    cfg = dataclasses.replace(cfg, empty="keep", overlong="error")
    examples = [Example((Turn("", text),), "caption", (text,), (0,)) for text in texts]
    some = ImageTexts(examples, np.zeros((1, 1, 1, 1), np.uint8))
    rows, *_ = image_text.image_text_rows(cfg, tokenizer, some)
    unknown.warn_of_rows(tokenizer, texts, rows)
    return TextBatch(rows.tokens, rows.segments)


def similarities(
    model: Any,
    params: Any,
    images: np.ndarray,
    texts: TextBatch,
    *,
    poll: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Cosine [images, texts] of each image and each text.

    Args: model, params: see ``Evaluator.unrolled``. images: [images, height, width, C]
        uint8, at least one. texts: [texts, T], at least one. poll: called between
        batches.
    """
    of_texts = jnp.asarray(_batched(_of_texts, model, params, texts, poll))
    of_images = _batched(_of_images, model, params, images[:, None], poll)
    return np.concatenate(
        [
            retrieval.similarity(of_images[first : first + AT_ONCE], of_texts)
            for first in range(0, len(images), AT_ONCE)
        ]
    )


def _batched(function, model, params, rows, poll):
    """``function`` of a tree of rows, some at a time; few shapes are compiled."""
    count = len(jax.tree.leaves(rows)[0])
    size, parts = min(count, AT_ONCE), []
    for first in range(0, count, size):
        poll()
        chosen = np.minimum(np.arange(first, first + size), count - 1)
        some = jax.tree.map(lambda x, chosen=chosen: x[chosen], rows)
        parts.append(fetch(function(model, params, some)))
    return np.concatenate(parts)[:count]


@functools.partial(jax.jit, static_argnums=0)
def _of_images(model, params, images):
    run = functools.partial(apply, model, params, rng=None, train=False)
    states = run(images, method="image_states")
    return run(states, None, method="contrast").images


@functools.partial(jax.jit, static_argnums=0)
def _states(model, params, images):
    run = functools.partial(apply, model, params, rng=None, train=False)
    return run(images, method="image_states")


@functools.partial(jax.jit, static_argnums=1)
def _matches(states, model, params, pairs):
    (of_images, text), rest = pairs, dict(rng=None, train=False)
    return apply(model, params, states[of_images], text, method="match", **rest)[:, 1]


@functools.partial(jax.jit, static_argnums=0)
def _of_texts(model, params, text):
    run = functools.partial(apply, model, params, rng=None, train=False)
    return run(None, text, method="contrast").texts


def _recall(name, k):
    return f"{name}_recall_{k}"


def _retrieves(experiment):
    return experiment.eval.samples > 0 and "contrastive" in experiment.data.objectives


def _writes(experiment):
    return experiment.eval.samples > 0 and "generation" in experiment.data.objectives


def _final_scores(experiment, data, split):
    names: list[str] = []
    if not getattr(data, split):
        return names
    if _retrieves(experiment):
        matches = "matching" in experiment.data.objectives
        kinds = ("", "reranked_") if matches else ("",)
        names += [
            f"{kind}{_recall(name, k)}"
            for kind in kinds
            for name in RETRIEVED
            for k in AT
        ]
    if _writes(experiment):
        names += visual_lm.final_scores(experiment, data, split)
    return names


def _has_score(experiment, score):
    objectives = experiment.data.objectives
    given = [name for each in objectives for name in retrieval.SCORES[each]]
    given += ["exact"] if "generation" in objectives else []
    return score in ("retrieval_loss", *given)


def _check(experiment):
    data, head = experiment.data, getattr(experiment.model, "head", "")
    if "generation" in data.objectives and head == "retrieval":
        raise ConfigError(
            f"data.objectives={data.objectives}: 'generation' needs "
            f"model.head='pretraining', not {head!r}"
        )
    if "generation" in data.objectives:
        visual_lm.check_end(experiment)
    matches = "matching" in data.objectives
    if matches and data.negatives == "hard" and "contrastive" not in data.objectives:
        raise ConfigError(
            f"data.objectives={data.objectives}: nothing learns the similarity that "
            "data.negatives='hard' goes by; choose 'random', or 'contrastive' besides"
        )
    if not data.begin:
        raise ConfigError(
            'data.begin="": the state of a special first token represents a text'
        )
    if experiment.train.accumulate_steps > 1:
        raise ConfigError(
            f"train.accumulate_steps={experiment.train.accumulate_steps} must be 1: "
            "negatives are of the whole batch; model.remat saves memory"
        )
    if experiment.mesh.gradient_allreduce == "fused":
        raise ConfigError(
            "mesh.gradient_allreduce='fused' must be 'per_array': negatives are of the "
            "whole batch, not of one device's"
        )


# Li et al. 2023, arXiv:2301.12597, as released for stage one
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="adamw",
        schedule="cosine",
        peak_lr=1e-4,
        warmup_steps=5_000,
        final_lr_fraction=0.1,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.05,
    ),
    "tokenizer": dict(kind="wordpiece"),
    "data": dict(begin="[CLS]", marker="", end="[SEP]"),  # rows as BERT reads them
    "train": dict(label_smoothing=0.1),
    "eval": dict(samples=100),
}

WORKLOAD = Workload(
    name="retrieval",
    objective=retrieval.Objective(),
    objective_of=lambda experiment: retrieval.Objective(
        experiment.data.objectives, experiment.data.negatives
    ),
    data=image_text.KIND._replace(
        Config=Config, unstored=(*image_text.KIND.unstored, "objectives", "negatives")
    ),
    scores={
        "retrieval_loss": min,
        "contrastive_loss": min,
        "contrastive_accuracy": max,
        "matching_loss": min,
        "matching_accuracy": max,
        "nll": min,
        "accuracy": max,
        "exact": max,
    },
    has_score=_has_score,
    final_scores=_final_scores,
    evaluator=RetrievalEvaluator,
    eval_knobs=("samples",),
    measured_with=("eval.samples",),
    check=_check,
    fits=visual_lm.fits,
    tokens=lambda batch: int((batch.weights.sum(axis=-1) > 0).sum()),
    counted="pairs",
    loss_unit="nats per pair",
    defaults=DEFAULTS,
)
