"""Tokenizers as files that transformers' ``AutoTokenizer`` reads, and models with them.

A folder is usable when text gives the ids there that the model was trained on: what
stands around a text is in ``tokenizer.json`` as a template, of which
``tokenizer_config.json`` names the tokens.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from tfm_jax.data.rows.framing import FRAMES
from tfm_jax.data.tokenizers.bilingual import (
    BOS,
    EOS,
    PAD,
    SPECIAL_LABELS,
    UNK,
    Tokenizer,
)
from tfm_jax.data.tokenizers.subwords import TextTokenizer

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
PAIRS = "tfm_jax_tokenizer.json"  # of a translation, as we read it
UNLIMITED = int(1e30)  # tokens of a row, as transformers says it
TARGET = "target_tokenizer"  # folder below it, where languages have one each
# transformers' name -> how special tokens that mean it are spelled, the first counts
MEANINGS = {
    "bos_token": ("<|endoftext|>", "[CLS]", "<s>"),
    "eos_token": ("<|endoftext|>", "[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>", "<|endoftext|>"),
    "sep_token": ("[SEP]", "_delimiter_", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "_classify_", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
NEVER = -1e6  # log probability of a piece that no text has
_NAMED = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNK}


class Around(NamedTuple):
    """Special tokens that stand around texts; "" is none."""

    begin: str = ""
    between: str = ""
    end: str = ""


NOTHING = Around()


def framed(frame: str, special: Any) -> Around:
    """A key of FRAMES; nothing where the vocabulary lacks a token of it."""
    tokens = Around(*FRAMES[frame])
    return tokens if {*tokens} <= {*special} else NOTHING


def meanings(special: Any) -> dict[str, str]:
    """What transformers calls the special tokens of a vocabulary, see MEANINGS."""
    meant: dict[str, str] = {}
    for name, spellings in MEANINGS.items():
        there = [token for token in spellings if token in special]
        meant |= {name: there[0]} if there else {}
    return meant


def write(
    folder: str | Path,
    tokenizer: TextTokenizer,
    around: Around,
    *,
    longest: int,
    types: int,
) -> None:
    """Writes the tokenizer of a model of texts.

    Args:
        around: what the model has read around them.
        longest: tokens of a row. types: whether the model tells texts apart by types.
    """
    document = json.loads(tokenizer.to_json())
    ids = {name: tokenizer.special[name] for name in around if name}
    settings = meanings(tokenizer.special) | {"model_input_names": _inputs(types)}
    _write(
        folder, document | {"post_processor": template(around, ids)}, settings, longest
    )


def begins_with(tokenizer: TextTokenizer) -> str:
    """The special token that ``tokenizer.json`` puts in front of a text; "" if none."""
    after = json.loads(tokenizer.to_json()).get("post_processor") or {}
    first = (after.get("single") or [{}])[0] if isinstance(after, dict) else {}
    return first.get("SpecialToken", {}).get("id", "")


def write_pairs(
    folder: str | Path, tokenizer: Tokenizer, *, longest: int, lowercase: bool = False
) -> None:
    """Writes the tokenizer of a translation: as it is, and for transformers.

    Args: lowercase: whether the model has read lower-cased text.
    """
    tokenizer.save(Path(folder, PAIRS))
    sides = {"source": Path(folder)}
    if not tokenizer.shared:
        sides["target"] = Path(folder, TARGET)
    for side, where in sides.items():
        where.mkdir(exist_ok=True)
        document, names = _shifted(tokenizer, side)
        if lowercase:
            steps = [{"type": "Lowercase"}, document["normalizer"]]
            document["normalizer"] = {
                "type": "Sequence",
                "normalizers": [step for step in steps if step],
            }
        settings = {name: names[index] for name, index in _NAMED.items()}
        settings |= {"model_input_names": _inputs(False), "split_special_tokens": True}
        _write(where, document, settings, longest)


def of_pairs(folder: str | Path) -> Path:
    """Where a translation's own tokenizer lies; earlier exports have one file."""
    own = Path(folder, PAIRS)
    return own if own.exists() else Path(folder, TOKENIZER)


def template(around: Around, ids: dict[str, int]) -> dict | None:
    """``around`` one text and two as a post-processor; None where nothing stands."""
    if around == NOTHING:
        return None

    def special(name, kind):
        return [{"SpecialToken": {"id": name, "type_id": kind}}] if name else []

    def text(name, kind):
        return [{"Sequence": {"id": name, "type_id": kind}}]

    first = special(around.begin, 0) + text("A", 0)
    second = special(around.between, 0) + text("B", 1)
    return {
        "type": "TemplateProcessing",
        "single": first + special(around.end, 0),
        "pair": first + second + special(around.end, 1),
        "special_tokens": {
            name: {"id": name, "ids": [index], "tokens": [name]}
            for name, index in ids.items()
        },
    }


def _inputs(types):
    return ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]


def _write(folder, document, settings, longest):
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": longest,
        **settings,
    }
    for name, content in ((TOKENIZER, document), (SETTINGS, settings)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        Path(folder, name).write_text(text, "utf-8")


def _shifted(tokenizer, side):
    """One side with the special tokens as its first ids: (document, their names)."""
    plain = json.loads(tokenizer.to_json())
    document = plain[side] or plain["source"]
    model = document["model"]
    listed = isinstance(model["vocab"], list)  # unigram: (piece, score)
    known = [piece for piece, _ in model["vocab"]] if listed else [*model["vocab"]]
    first = tokenizer.first_id
    names = list(SPECIAL_LABELS[:first])
    for index, name in enumerate(names):
        if tokenizer.kind == "word":
            name = name.replace("<", "< ")  # which is no word
        while name in known:
            name = f"<{name}>"
        names[index] = name
    if listed:
        model["vocab"] = [[name, NEVER] for name in names] + model["vocab"]
        model["unk_id"] = UNK
    else:
        kept = {label: index + first for label, index in model["vocab"].items()}
        model["vocab"] = {name: index for index, name in enumerate(names)} | kept
    names += SPECIAL_LABELS[first:]  # <unk> is the side's own
    document["added_tokens"] = [
        dict(
            dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            **dict(id=index, content=name, special=True),
        )
        for index, name in enumerate(names)
    ]
    end = Around(end=names[EOS])
    document["post_processor"] = template(end, {names[EOS]: EOS})
    if tokenizer.kind in ("bpe", "unigram"):  # the space before the first word
        strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        decoders = [document["decoder"], strip]
        document["decoder"] = {"type": "Sequence", "decoders": decoders}
    return document, names
