"""Evaluation: teacher-forced loss, and BLEU, chrF and exact match of translations."""

import collections
import dataclasses
import functools

import jax
import numpy as np
import sacrebleu

from tfm_jax.data import pipeline
from tfm_jax.data.normalize import Normalizer
from tfm_jax.data.sources import Pairs
from tfm_jax.infer.decode import SPECIAL, decode
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.train.experiment import TASKS, build_model
from tfm_jax.train.mesh import on_this_host, put_whole, row_multiple
from tfm_jax.train.sections import EvalConfig


def apply(model, params, batch, *, rng, train):
    """``model`` as a task takes it: a function of parameters and a batch."""
    rngs = {} if rng is None else {"dropout": rng}
    return model.apply({"params": params}, batch, train=train, rngs=rngs)


def make_eval_step(experiment):
    """Jitted ``eval_step(params, batch) -> sums`` of the experiment's task."""
    model = functools.partial(apply, build_model(experiment))
    losses = TASKS[experiment.task].losses
    return jax.jit(functools.partial(losses.eval_sums, model))


def without_positions(experiment, batch):
    """Rows that hold one sentence each say so by having no positions."""
    if experiment.data.batching == "pack":
        return batch
    return batch._replace(source_positions=None, target_positions=None)


class Evaluator:
    """Scores parameters on the held-out sets of one experiment."""

    def __init__(self, experiment, data, mesh):
        self.experiment, self.data, self.mesh = experiment, data, mesh
        self.cfg = experiment.eval
        self.decoder = build_model(experiment, layout="unrolled")
        self.losses = TASKS[experiment.task].losses
        self.eval_step = make_eval_step(experiment)
        language = experiment.data.target_language
        self.normalizer = Normalizer(experiment.data.normalize, language)
        self._batches = {}

    def during(self, params, *, poll=lambda: None) -> tuple[dict, dict]:
        """Loss on the validation set, scores and samples of its first sentences.

        Returns: (scores, sample number -> "source -> translation (reference)").
        """
        scores, samples = self.loss(params, "valid", poll=poll), {}
        few = Pairs(*(side[: self.cfg.sentences] for side in self.data.valid))
        if few.source:
            text, found = self.translations(params, few, poll=poll)
            scores |= text
            shown = zip(few.source, found, few.target, strict=True)
            for n, (source, hypothesis, target) in enumerate(shown):
                if n < self.cfg.samples:
                    samples[str(n)] = f"{source} -> {hypothesis} ({target})"
        return scores, samples

    def loss(self, params, split, *, poll=lambda: None) -> dict:
        """``nll`` (nats per token), ``perplexity``, ``accuracy``, ``tokens``.

        Every target token counts once, whatever the batches are, of the pairs that
        training would not leave out as empty or overlong; {} if the split is empty.
        """
        pairs = getattr(self.data, split)
        if not pairs.source:
            return {}
        if split not in self._batches:
            cfg = dataclasses.replace(self.experiment.data, empty="drop")
            encoded = pipeline.encode_pairs(cfg, self.data.tokenizer, pairs)
            self._batches[split] = list(
                pipeline.eval_batches(
                    cfg,
                    encoded,
                    batch_tokens=self.cfg.batch_tokens,
                    row_multiple=row_multiple(self.mesh),
                )
            )
        totals = collections.Counter()
        for batch in self._batches[split]:
            poll()
            batch = put_whole(self.mesh, without_positions(self.experiment, batch))
            totals.update(jax.device_get(self.eval_step(params, batch)))
        return self.losses.scores(totals, {})

    def translations(self, params, pairs, *, poll=lambda: None) -> tuple[dict, list]:
        """(scores, translations in the training text's form) of ``pairs``."""
        hypotheses = translate(
            self.decoder,
            on_this_host(params),
            self.data.tokenizer,
            pairs.source,
            self.cfg,
            on_batch=lambda _: poll(),
        )
        return text_scores(
            hypotheses, pairs.target, pairs.references, self.normalizer
        ), hypotheses


def translate(model, params, tokenizer, lines, cfg: EvalConfig, **options) -> list[str]:
    """Best translation of each line, both in the training text's form."""
    forbid = tokenizer.unspelled(model.cfg.target_vocab)
    found = decode(
        model,
        to_unrolled(params),
        tokenizer.encode(lines, "source"),
        special=SPECIAL._replace(forbid=forbid),
        beam=cfg.beam,
        length_penalty=cfg.length_penalty,
        offset=cfg.max_length_offset,
        returned=1,
        batch_sentences=min(cfg.batch_sentences, _power_of_two(len(lines))),
        **options,
    )
    return tokenizer.decode([tokens[0] for tokens, _, _ in found], "target")


def _power_of_two(n):
    return 1 << max(n - 1, 0).bit_length()


def text_scores(hypotheses, targets, references, normalizer) -> dict:
    """BLEU and chrF through sacrebleu, with signatures, and exact match.

    Args:
        hypotheses: translations in the training text's form. targets: references so.
        references: the same references as they were read.
    Returns: ``bleu`` on plain text with sacreBLEU's own tokeniser, ``bleu_tokenized``
        on the training text's tokens (the protocol of papers that score tokenised
        text), ``chrf``, ``exact_match`` as a probability, and the signatures. Where the
        training text is lower-cased, case does not count.
    """
    lowercase = normalizer.steps.lowercase
    plain = [normalizer.undo(line) for line in hypotheses]
    detokenized = sacrebleu.BLEU(lowercase=lowercase)
    tokenized = sacrebleu.BLEU(tokenize="none", force=True)
    chrf = sacrebleu.CHRF(lowercase=lowercase)
    pairs = zip(hypotheses, targets, strict=True)
    scores = {
        "bleu": detokenized.corpus_score(plain, [references]).score,
        "bleu_tokenized": tokenized.corpus_score(hypotheses, [targets]).score,
        "chrf": chrf.corpus_score(plain, [references]).score,
        "exact_match": float(np.mean([h.split() == t.split() for h, t in pairs])),
    }
    metrics = dict(bleu=detokenized, bleu_tokenized=tokenized, chrf=chrf)
    signatures = {f"{k}_signature": str(m.get_signature()) for k, m in metrics.items()}
    return scores | signatures
