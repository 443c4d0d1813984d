"""Visual language modelling: captions and answers to questions, few-shot or not.

Source: Alayrac et al. 2022, arXiv:2204.14198, sections 2 and 3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.data.prepared import SPLITS
from tfm_jax.data.rows import image_text
from tfm_jax.data.sources.turns import Example
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.mesh import fetch
from tfm_jax.metrics.bleu import bleu
from tfm_jax.objectives import visual_lm
from tfm_jax.workloads.evaluator import Evaluator, Scored
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload

AT_ONCE = 64  # answers that are written together
CAPTION = "caption"  # kind of example whose answers have BLEU


def answers(
    model: Any,
    params: Mapping[str, Any],
    tokenizer: Any,
    rows: ImageTextBatch,
    *,
    end: int,
    on_batch: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """The last answer of each row as ``model`` writes it, greedily.

    Args:
        model, params: see ``Evaluator.unrolled``. tokenizer: of the run.
        rows: only what stands before the last answers is read.
        end: the token that ends one.
        on_batch: called with the number of answers of each batch when it is done.
    """
    starts, length = image_text.answer_starts(rows), rows.tokens.shape[1]
    room = int(length - starts.min()) if len(starts) else 1
    longest = model.cfg.longest
    room = min(room, longest - int(starts.max()) + 1) if longest else room
    how = Sampling(
        room, temperature=0.0, eos=end, forbid=tokenizer.unspelled(model.cfg.vocab)
    )
    written = []
    for first in range(0, len(starts), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        prompts = [
            row[:n] for row, n in zip(rows.tokens[some], starts[some], strict=True)
        ]
        beside = {
            name: getattr(rows, name)[some]
            for name in ("images", "image_counts", "image_index")
        }
        samples = fetch(generate(model, params, prompts, how, beside=beside))
        ids = [
            x[0, : n[0]] for x, n in zip(samples.tokens, samples.lengths, strict=True)
        ]
        written += tokenizer.decode([row[row != end] for row in ids])
        on_batch(len(prompts))
    return [text.strip() for text in written]


def text_scores(written: Sequence[str], examples: Sequence[Example]) -> dict:
    """``exact_match`` of all answers and of each kind, BLEU of captions."""
    right: dict[str, list[bool]] = {}
    for text, example in zip(written, examples, strict=True):
        hit = text.split() in [x.split() for x in example.references]
        right.setdefault(example.kind, []).append(hit)
    of_kinds = {f"{k}_exact_match": float(np.mean(x)) for k, x in sorted(right.items())}
    whole = float(np.mean([hit for hits in right.values() for hit in hits]))
    scores: dict[str, Any] = {"exact_match": whole, **of_kinds}
    captions = [
        (text, example.references)
        for text, example in zip(written, examples, strict=True)
        if example.kind == CAPTION
    ]
    if captions:
        texts, references = zip(*captions, strict=True)
        most = max(map(len, references))
        each: Any = [
            [x[n] if n < len(x) else None for x in references] for n in range(most)
        ]
        metric = bleu("en", lowercase=True)
        scores["bleu"] = metric.corpus_score(texts, each).score
        scores["bleu_signature"] = str(metric.get_signature())
    return scores


class WritingEvaluator(Evaluator):
    """An evaluator that scores texts that the model writes."""

    def written(
        self,
        params: dict[str, Any],
        split: str,
        most: int | None,
        poll: Callable[[], object] = lambda: None,
    ) -> tuple[dict, list[str]]:
        """(``text_scores``, "prompt -> answer (reference)") of the first examples."""
        (rows,), examples = getattr(self.data, split), self.data.examples[split][:most]
        if most is not None:
            rows = type(rows)(*(x if x is None else x[:most] for x in rows))
        (end,) = self.data.tokenizer.ids_of(self.experiment.data.end)
        with self.unrolled(params) as parts:
            texts = answers(
                *(*parts, self.data.tokenizer, rows),
                end=end,
                on_batch=lambda _: poll(),
            )
        shown = [
            f"{' '.join(turn.prompt for turn in example.turns[-1:])} -> {text} "
            f"({' | '.join(example.references)})"
            for text, example in zip(texts, examples, strict=True)
        ]
        return text_scores(texts, examples), shown


def answers_file(shown: Sequence[str]) -> dict[str, str]:
    """``Scored.files`` with what ``WritingEvaluator.written`` shows."""
    return {"answers.txt": "".join(f"{line}\n" for line in shown)}


class VisualEvaluator(WritingEvaluator):
    """Scores the text of answers, too."""

    def during(
        self, params: dict[str, Any], *, poll: Callable[[], object] = lambda: None
    ) -> tuple[dict, dict]:
        """Loss of the validation split, scores and samples of its first examples."""
        scores = self.loss(params, "valid", poll=poll)
        if not scores or not self.cfg.sentences:
            return scores, {}
        of_texts, shown = self.written(params, "valid", self.cfg.sentences, poll)
        samples = {str(n): line for n, line in enumerate(shown[: self.cfg.samples])}
        return scores | of_texts, samples

    def final(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> Scored:
        """Adds scores of the text, and leaves ``answers-SPLIT.txt``."""
        scores = self.loss(params, split, poll=poll)
        if not scores:
            return Scored({})
        of_texts, shown = self.written(params, split, None, poll)
        lines = tuple(shown[: self.cfg.samples])
        return Scored(scores | of_texts, lines, answers_file(shown))


def fits(experiment: Any, data: Any) -> None:
    """There are images, of the size, the channels and the number that the model reads.

    Raises: ConfigError.
    """
    vision = experiment.model.vision
    for split in SPLITS:
        for rows in getattr(data, split):
            count = rows.images.shape[1]
            check_count(
                experiment,
                count,
                f"rows of the {split} split",
                "set data.shots=0" if experiment.data.shots else "list one for each",
            )
            if not np.any(rows.weights.any(axis=-1) & (rows.image_counts > 0)):
                raise ConfigError(
                    f"no row of the {split} split has an image and a text to predict"
                )
            shape = tuple(rows.images.shape[2:])
            if shape != (*vision.image, vision.channels):
                raise ConfigError(
                    f"images of the {split} split have the shape {shape}, "
                    f"model.vision.image_size={vision.image_size} and "
                    f"model.vision.channels={vision.channels} are for others: set "
                    "these, or data.image_size, data.color or data.scenes.size"
                )


def _fits(experiment, data):
    """As ``fits``; a model that reads an image per row is given one in each."""
    fits(experiment, data)
    if not hasattr(experiment.model, "most_images"):
        return
    for split in SPLITS:
        for rows in getattr(data, split):
            if without := int(np.sum(rows.image_counts == 0)):
                raise ConfigError(
                    f"{without} of {len(rows.tokens)} rows of the {split} split have "
                    f"no image, model_name={experiment.model_name!r} reads one in "
                    "each: leave them out of its data"
                )


def check_count(experiment: Any, count: int, rows: str, mend: str) -> None:
    """Raises: ConfigError if ``rows`` have more images than the model reads."""
    if count > getattr(experiment.model, "most_images", count):
        raise ConfigError(
            f"{rows} have up to {count} images, "
            f"model_name={experiment.model_name!r} reads one: {mend}"
        )


def check_end(experiment: Any) -> None:
    """Raises: ConfigError without a token that ends an answer."""
    if not experiment.data.end:
        raise ConfigError(
            'data.end="": no token ends an answer that the model writes; name a '
            "special one of the tokenizer"
        )


def _has_score(experiment, score):
    data, written = experiment.data, experiment.eval.sentences > 0
    asks = data.source == "scenes" and data.scenes.texts == "questions"
    return score in TOKEN_SCORES or (written and not (asks and score == "bleu"))


def final_scores(experiment: Any, data: Any, split: str) -> list[str]:
    """Names of the ``text_scores`` of a split."""
    del experiment
    kinds = data.report.get(split, {}).get("kinds", {})
    names = ["exact_match", *(f"{kind}_exact_match" for kind in kinds)]
    return names + ["bleu"] * (CAPTION in kinds)


# Alayrac et al. 2022, appendix B.1.2; b2 and eps are Adam's usual ones
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="adamw",
        schedule="constant",
        peak_lr=1e-4,
        warmup_steps=5_000,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.1,
        clip_norm=1.0,
    ),
    "train": dict(label_smoothing=0.0),
}

WORKLOAD = Workload(
    name="visual_lm",
    objective=visual_lm,
    data=image_text.KIND,
    scores={**TOKEN_SCORES, "exact_match": max, "bleu": max},
    has_score=_has_score,
    final_scores=final_scores,
    evaluator=VisualEvaluator,
    eval_knobs=("sentences",),
    check=check_end,
    fits=_fits,
    defaults=DEFAULTS,
)
