"""BLEU, chrF and exact match of translations, through sacreBLEU."""

import contextlib
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import sacrebleu

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


def bleu(language: str, **options: Any) -> sacrebleu.BLEU:
    """BLEU on plain text in ``language``, a code such as "de", "zh-TW" or "zho_Hans".

    Source: Post 2018, arXiv:1804.08771, and sacreBLEU's tokenizers of languages.
    """
    code = re.split("[-_]", language.lower())[0]
    for name in BLEU_TOKENIZERS.get(_CODES.get(code, code), ("13a",)):
        with contextlib.suppress(RuntimeError):  # MeCab is not installed
            return sacrebleu.BLEU(tokenize=name, **options)
    raise AssertionError(language)


def text_scores(
    hypotheses: Sequence[str],
    targets: Sequence[str],
    references: Sequence[str],
    normalizer: Any,
    language: str,
    names: Collection[str],
) -> dict:
    """BLEU and chrF through sacrebleu, with signatures, and exact match.

    Args:
        hypotheses: translations in the training text's form. targets: references so.
        references: the same references as they were read. language: of all three.
        names: of the scores below, those to compute.
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
