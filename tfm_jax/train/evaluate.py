"""Evaluation: teacher-forced loss, and BLEU, chrF and exact match of translations."""

import collections
import contextlib
import functools
import re

import jax
import numpy as np
import sacrebleu

from tfm_jax.data.batches import eval_batches
from tfm_jax.data.errors import DataError, within
from tfm_jax.data.rows.pairs import has_text
from tfm_jax.data.sources.bitext import SOURCES, TEXT_SCORES, Pairs
from tfm_jax.data.tokenizers.normalize import Normalizer
from tfm_jax.decode.rows import check_lengths, power_of_two
from tfm_jax.decode.search import SPECIAL, decode
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.mesh import on_this_host, put_whole, row_multiple
from tfm_jax.settings.experiment import TASKS, build_model
from tfm_jax.settings.sections import EvalConfig

NOTHING = Pairs([], [], [])


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
        self.language = language
        self._batches = {}
        for split in ("valid", "test") if experiment.model.longest else ():
            with within(f"the {split} split"):
                self._check_sources(data.examples.get(split, NOTHING))

    def _check_sources(self, pairs):
        """Every source is translated, also those that the loss leaves out."""
        try:
            sources = self.data.tokenizer.encode(pairs.source, "source")
            check_lengths(sources, self.experiment.model.longest)
        except ValueError as error:
            raise DataError(str(error)) from error

    def during(self, params, *, poll=lambda: None) -> tuple[dict, dict]:
        """Loss on the validation set, scores and samples of its first sentences.

        Returns: (scores, sample number -> "source -> translation (reference)").
        """
        scores, samples = self.loss(params, "valid", poll=poll), {}
        few = Pairs(
            *(
                side[: self.cfg.sentences]
                for side in self.data.examples.get("valid", NOTHING)
            )
        )
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
        if not getattr(self.data, split):
            return {}
        if split not in self._batches:
            self._batches[split] = list(
                eval_batches(
                    self.data,
                    split,
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
        names = SOURCES[self.experiment.data.source].scores
        texts = hypotheses, pairs.target, pairs.references
        scores = text_scores(*texts, self.normalizer, self.language, names)
        return scores, hypotheses


def translate(model, params, tokenizer, lines, cfg: EvalConfig, **options) -> list[str]:
    """Best translation of each line, both in the training text's form.

    That of a line without text, by ``pairs.has_text``, is "".
    Raises: ValueError for a line that is longer than the model's positions reach.
    """
    sources = tokenizer.encode(lines, "source")
    texts = [
        n for n, pair in enumerate(zip(lines, sources, strict=True)) if has_text(*pair)
    ]
    found = decode(
        model,
        to_unrolled(params),
        [sources[n] for n in texts],
        special=SPECIAL._replace(forbid=tokenizer.unspelled(model.cfg.target_vocab)),
        beam=cfg.beam,
        length_penalty=cfg.length_penalty,
        offset=cfg.max_length_offset,
        returned=1,
        batch_sentences=min(cfg.batch_sentences, power_of_two(len(texts))),
        **options,
    )
    written = tokenizer.decode([tokens[0] for tokens, _, _ in found], "target")
    translated = dict(zip(texts, written, strict=True))
    return [translated.get(n, "") for n in range(len(lines))]


# sacreBLEU's tokenizer of a language, or the first that is installed; others have 13a.
# Scripts without spaces and without a tokenizer of their own are split at characters.
BLEU_TOKENIZERS = {
    "zh": ("zh",),
    "ja": ("ja-mecab", "char"),
    "ko": ("ko-mecab", "char"),
    **dict.fromkeys(("bo", "dz", "km", "lo", "my", "th"), ("char",)),
}
_CODES = {  # of ISO 639-2 and 639-3
    **dict.fromkeys(("chi", "zho", "cmn", "yue", "wuu", "lzh"), "zh"),
    **{"jpn": "ja", "kor": "ko", "bod": "bo", "tib": "bo", "dzo": "dz", "khm": "km"},
    **{"lao": "lo", "mya": "my", "bur": "my", "tha": "th"},
}


def bleu(language: str, **options) -> sacrebleu.BLEU:
    """BLEU on plain text in ``language``, a code such as "de", "zh-TW" or "zho_Hans".

    Source: Post 2018, arXiv:1804.08771, and sacreBLEU's tokenizers of languages.
    """
    code = re.split("[-_]", language.lower())[0]
    for name in BLEU_TOKENIZERS.get(_CODES.get(code, code), ("13a",)):
        with contextlib.suppress(RuntimeError):  # MeCab is not installed
            return sacrebleu.BLEU(tokenize=name, **options)
    raise AssertionError(language)


def text_scores(
    hypotheses, targets, references, normalizer, language, names=TEXT_SCORES
) -> dict:
    """BLEU and chrF through sacrebleu, with signatures, and exact match.

    Args:
        hypotheses: translations in the training text's form. targets: references so.
        references: the same references as they were read. language: of all three.
        names: the scores that are asked for.
    Returns: ``bleu`` on plain text with sacreBLEU's own tokeniser, ``bleu_tokenized``
        on the training text's tokens (the protocol of papers that score tokenised
        text), ``chrf``, ``exact_match`` as a probability, and the signatures. Where the
        training text is lower-cased, case does not count.
    """
    lowercase = normalizer.steps.lowercase
    plain = [normalizer.undo(line) for line in hypotheses], [references]
    tokenized = hypotheses, [targets]
    metrics = {
        "bleu": (bleu(language, lowercase=lowercase), plain),
        "bleu_tokenized": (sacrebleu.BLEU(tokenize="none", force=True), tokenized),
        "chrf": (sacrebleu.CHRF(lowercase=lowercase), plain),
    }
    scores, signatures = {}, {}
    for name in names:
        if name in metrics:
            metric, texts = metrics[name]
            scores[name] = metric.corpus_score(*texts).score
            signatures[f"{name}_signature"] = str(metric.get_signature())
    if "exact_match" in names:
        pairs = zip(hypotheses, targets, strict=True)
        same = [h.split() == t.split() for h, t in pairs]
        scores["exact_match"] = float(np.mean(same))
    return scores | signatures
