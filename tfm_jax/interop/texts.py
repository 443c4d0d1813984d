"""Texts as a folder's model reads them, to be compared with transformers."""

from pathlib import Path
from typing import Any, NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import unlabelled
from tfm_jax.data.tokenizers.bilingual import Tokenizer
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.interop.imported import Imported
from tfm_jax.interop.tokenizer_files import (
    NOTHING,
    PAIRS,
    TARGET,
    begins_with,
    framed,
)
from tfm_jax.models import family_of

TEXTS = (
    *("a", "The end.", "is it naïve?", "3.14 or 1,000", "  two  spaces ", "x_1 = f(y)"),
    *("Ångström ﬁ É", "数据 and 日本語。", "한국어", "👩\u200d👧 \u0300", "I'm we'LL"),
)


class Text(NamedTuple):
    """One or two texts, and what the model reads: ``types`` or None."""

    text: tuple[str, ...]
    ids: list[int]
    types: list[int] | None = None


class Texts(NamedTuple):
    """Rows for one tokenizer of transformers.

    Attributes:
        tokenizer: where it lies, below the folder.
        compared: whether outputs of the model are compared on them, too.
    """

    rows: list[Text]
    tokenizer: str = ""
    compared: bool = True


def read(folder: str | Path, loaded: Any) -> dict[str, Texts]:
    """TEXTS that fit the model, by what they are.

    Args: loaded: what ``load_huggingface`` gave for ``folder``.
    Raises: DataError if the folder has no tokenizer that is read here, or if that does
        not fit the model.
    """
    if isinstance(loaded, Imported):
        return _of_pairs(Path(folder), loaded.config)
    tokenizer = TextTokenizer.load(folder)
    if tokenizer.vocab > loaded.config.vocab:
        raise DataError(
            f"the tokenizer has {tokenizer.vocab} ids, the model {loaded.config.vocab}"
        )
    texts = [text for text in TEXTS if _known(tokenizer, text)]
    rows: dict[str, list] = {"texts": [(text,) for text in texts]}
    if getattr(loaded.config, "types", 1) > 1:
        rows["pairs of texts"] = list(zip(texts, reversed(texts), strict=True))
    most = loaded.config.max_length
    rows = {name: _of_texts(tokenizer, loaded, rows[name]) for name in rows}
    rows = {name: [x for x in rows[name] if 0 < len(x.ids) <= most] for name in rows}
    if not rows["texts"]:
        raise DataError(f"none of them fits model.max_length={most}")
    return {name: Texts(some) for name, some in rows.items() if some}


def _known(tokenizer, text):
    try:
        tokenizer.encode([text])
    except DataError:
        return False
    return True


def _of_texts(tokenizer, loaded, texts):
    """A ``Text`` of each tuple of one or two."""
    firsts = [text[0] for text in texts]
    seconds = [text[1] for text in texts] if texts and len(texts[0]) > 1 else None
    family = family_of(loaded.config)
    continues = family.causal and (
        loaded.config.head == "lm" or framed(family.frame, tokenizer.special) == NOTHING
    )
    if continues:
        start = begins_with(tokenizer)
        start = tokenizer.special[start] if start else None
        probes = unlabelled.started(tokenizer, firsts, start)
    else:
        probes = unlabelled.framed(tokenizer, firsts, seconds, frame=family.frame)
    typed = getattr(loaded.config, "types", 1) > 1 and probes.types is not None
    types = [row.tolist() for row in probes.types] if typed else [None] * len(texts)
    rows = [row.tolist() for row in probes.rows]
    return [Text(*parts) for parts in zip(texts, rows, types, strict=True)]


def _of_pairs(folder, config):
    """Sources, and targets where they have a tokenizer of their own."""
    if not (folder / PAIRS).exists():
        raise DataError(f"there is no {folder / PAIRS}")
    tokenizer = Tokenizer.load(folder / PAIRS)
    sides = {"texts": ("source", "", config.source_vocab)}
    if not tokenizer.shared:
        sides["target texts"] = ("target", TARGET, config.target_vocab)
    by_side = {}
    for name, (side, where, vocab) in sides.items():
        known = getattr(tokenizer, f"{side}_vocab")
        if known > vocab:
            raise DataError(f"the {side} tokenizer has {known} ids, the model {vocab}")
        encoded = zip(TEXTS, tokenizer.encode(TEXTS, side), strict=True)
        rows = [Text((text,), ids.tolist()) for text, ids in encoded]
        rows = [row for row in rows if len(row.ids) <= config.max_length]
        if rows:
            by_side[name] = Texts(rows, where, compared=side == "source")
    return by_side
