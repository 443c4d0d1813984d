"""Translation of sentence pairs: data, objective, and scores of translated text."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flax import linen as nn

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError, within
from tfm_jax.data.rows.pairs import KIND, encode_pairs, has_text
from tfm_jax.data.sources.bitext import SOURCES, Pairs
from tfm_jax.data.tokenizers import normalize
from tfm_jax.decode.rows import check_lengths, power_of_two
from tfm_jax.decode.search import SPECIAL, decode
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.metrics.bleu import text_scores
from tfm_jax.objectives import translation
from tfm_jax.workloads.evaluator import Evaluator, Scored
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


class TranslationEvaluator(Evaluator):
    """Scores the text of translations besides."""

    def setup(self) -> None:
        """The decoder; every source must be within its reach. Raises: DataError."""
        experiment, cfg = self.experiment, self.experiment.data
        self.decoder = experiment.build_model(layout="unrolled")
        self.language = cfg.target_language
        self.normalizer = normalize.Normalizer(cfg.normalize, self.language)
        for split in ("valid", "test") if experiment.model.longest else ():
            with within(f"the {split} split"):
                self._check_sources(self.pairs(split))

    def _check_sources(self, pairs):
        """Every source is translated, also those that the loss leaves out."""
        try:
            sources = self.data.tokenizer.encode(pairs.source, "source")
            check_lengths(sources, self.experiment.model.longest)
        except ValueError as error:
            raise DataError(str(error)) from error

    def pairs(self, split: str) -> Pairs:
        """The sentence pairs of a held-out split, as they are scored.

        The loss leaves out what training does, as empty or overlong.
        """
        return self.data.examples.get(split) or Pairs([], [], [])

    def during(
        self, params: dict[str, Any], *, poll: Callable[[], object] = lambda: None
    ) -> tuple[dict, dict]:
        """Loss on the validation set, scores and samples of its first sentences.

        Returns: (scores, sample number -> "source -> translation (reference)").
        """
        scores, samples = self.loss(params, "valid", poll=poll), {}
        few = Pairs(*(side[: self.cfg.sentences] for side in self.pairs("valid")))
        if few.source:
            of_texts, hypotheses = self.translations(params, few, poll=poll)
            scores |= of_texts
            shown = zip(few.source, hypotheses, few.target, strict=True)
            for n, (source, hypothesis, target) in enumerate(shown):
                if n < self.cfg.samples:
                    samples[str(n)] = f"{source} -> {hypothesis} ({target})"
        return scores, samples

    def final(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> Scored:
        """Adds scores of the text, and leaves ``translations-SPLIT.txt``."""
        pairs = self.pairs(split)
        if not pairs.source:
            return Scored({})
        scores = self.loss(params, split, poll=poll)
        of_texts, hypotheses = self.translations(params, pairs, poll=poll)
        rows = list(zip(pairs.source, hypotheses, pairs.target, strict=True))
        lines = tuple(map(_shown, rows[: self.cfg.samples]))
        files = {"translations.txt": to_table(rows)}
        return Scored(scores | of_texts, lines, files)

    def translations(
        self,
        params: dict[str, Any],
        pairs: Pairs,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> tuple[dict, list]:
        """(scores, translations in the training text's form) of ``pairs``."""
        hypotheses = translate(
            self.decoder,
            params,
            self.data.tokenizer,
            pairs.source,
            self.cfg,
            on_batch=lambda _: poll(),
        )
        names = _final_scores(self.experiment.data)
        texts = hypotheses, pairs.target, pairs.references
        scores = text_scores(*texts, self.normalizer, self.language, names)
        return scores, hypotheses

    @property
    def pictured(self) -> tuple | None:
        """The first held-out pair that fits a row."""
        cfg = dataclasses.replace(self.experiment.data, overlong="drop")
        split = "test" if self.pairs("test").source else "valid"
        pairs = self.pairs(split)
        for pair in zip(pairs.source, pairs.target, strict=True):
            with contextlib.suppress(DataError):
                one = Pairs(*([side] for side in pair))
                encode_pairs(cfg, self.data.tokenizer, one, split)
                return self.decoder, self.data.tokenizer, *pair
        return None


def translate(
    model: nn.Module,
    params: dict[str, Any],
    tokenizer: Any,
    lines: Sequence[str],
    cfg: Any,
    *,
    name: Callable[[int], str] = "text {}".format,
    **options: Any,
) -> list[str]:
    """Best translation of each line, both in the training text's form.

    That of a line without text, by ``pairs.has_text``, is "".

    Args: name: what the message calls the line of a number, from 0.
    Raises: ValueError for a line that is longer than the model's positions reach.
    """
    sources = tokenizer.encode(lines, "source")
    texts = [
        n for n, pair in enumerate(zip(lines, sources, strict=True)) if has_text(*pair)
    ]
    rows = [sources[n] for n in texts]
    check_lengths(rows, model.cfg.longest, lambda row: name(texts[row]))
    decoded = decode(
        model,
        to_unrolled(params),
        rows,
        special=SPECIAL._replace(forbid=tokenizer.unspelled(model.cfg.target_vocab)),
        beam=cfg.beam,
        length_penalty=cfg.length_penalty,
        offset=cfg.max_length_offset,
        returned=1,
        batch_sentences=min(cfg.batch_sentences, power_of_two(len(texts))),
        **options,
    )
    written = tokenizer.decode([tokens[0] for tokens, _, _ in decoded], "target")
    translated = dict(zip(texts, written, strict=True))
    return [translated.get(n, "") for n in range(len(lines))]


def _shown(row):
    source, translation, reference = row
    verdict = "" if translation == reference else f"   (reference: {reference})"
    return f"{source} -> {translation}{verdict}"


_SPELLED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPES = str.maketrans(_SPELLED)
_CHARACTERS = {spelled: character for character, spelled in _SPELLED.items()}


def to_table(rows: Iterable[Sequence[str]]) -> str:
    r"""A header and tab-separated lines; ``read_translations`` is its inverse.

    A line break, tab or backslash inside of a text is ``\n``, ``\r``, ``\t`` or ``\\``.
    Args: rows: (source, translation, reference) each.
    """
    lines = ["\t".join(text.translate(_ESCAPES) for text in row) for row in rows]
    return "\n".join(["source\ttranslation\treference", *lines, ""])


def read_translations(path: Path) -> list[tuple[str, ...]]:
    """(source, translation, reference) of each line but the first."""
    _, *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [tuple(map(_unescaped, line.split("\t"))) for line in lines]


def _unescaped(text):
    return re.sub(r"\\.", lambda match: _CHARACTERS.get(match[0], match[0]), text)


def _final_scores(data):
    """Those of the text that mean something for translations of this source."""
    return SOURCES[data.source].scores


def _has_score(experiment, score):
    if score in TOKEN_SCORES:
        return True
    return experiment.eval.sentences > 0 and score in _final_scores(experiment.data)


def _check_new(experiment):
    data = experiment.data
    languages = ("source_language", "target_language")
    normalize.check(data.normalize, **{knob: getattr(data, knob) for knob in languages})
    tie = getattr(experiment.model, "tie", "none")
    if tie == "three_way" and not experiment.tokenizer.shared:  # as large by chance
        raise ConfigError(
            "model.tie='three_way' needs one vocabulary, not the two of "
            "tokenizer.shared=false; set tokenizer.shared=true or choose model.tie "
            "from (two_way, none)"
        )


WORKLOAD = Workload(
    name="translation",
    objective=translation,
    data=KIND,
    scores={**TOKEN_SCORES, "bleu": max, "chrf": max, "exact_match": max},
    has_score=_has_score,
    final_scores=lambda experiment, *_: _final_scores(experiment.data),
    check_new=_check_new,
    evaluator=TranslationEvaluator,
    samples_by=("encode", "init_cache", "step"),
    eval_knobs=(
        "sentences",
        "batch_sentences",
        "beam",
        "length_penalty",
        "max_length_offset",
    ),
    vocabularies={"source_vocab": "source_vocab", "target_vocab": "target_vocab"},
    longest=lambda data: max(data.source_length, data.target_length),
    tokens=lambda batch: int((batch.target_segments > 0).sum()),
    size=lambda data: f"{data.report['train']['kept']:,} pairs",
)
