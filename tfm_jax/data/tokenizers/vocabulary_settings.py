"""What lies beside a vocabulary file: rules, special tokens and tokens added later.

Source: ``_from_pretrained`` of the base class of transformers' tokenizers: tokens that
``tokenizer_config.json`` lists count alone, without them ``added_tokens.json`` and
``special_tokens_map.json`` do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tokenizers

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError

CONFIG = "tokenizer_config.json"
ADDED, SPECIAL = "added_tokens.json", "special_tokens_map.json"
EXTRA = ("additional_special_tokens", "extra_special_tokens")
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token")
NAMES += ("pad_token", "cls_token", "mask_token")  # in this order they are added
FLAGS = ("lstrip", "rstrip", "single_word")
MOST = 10_000  # added tokens


class Settings(NamedTuple):
    """``values`` by name; ``later``: tokens that were added, in order of their ids."""

    folder: Path
    values: dict
    later: list[tokenizers.AddedToken]

    def choice(self, name: str, default: bool) -> bool:
        """A boolean setting, or ``default``. Raises: DataError if it is none."""
        value = self.values.get(name, default)
        if value is None or type(value) is bool:
            return default if value is None else value
        raise DataError(
            f"{self.folder}: {name}={str(value)[:99]!r} must be true or false"
        )

    def token(self, name: str, default: str) -> str:
        """How a special token is spelled. Raises: DataError if it is no token."""
        value = self.values.get(name, default)
        return value if value is None else _token(self.folder, value).content

    def added(self, names: Sequence[str]) -> list:
        """All tokens beside the vocabulary's own: ``AddedToken`` in order.

        Args: names: transformers' name -> spelling, where nothing else is said.
        Raises: DataError for what is no token.
        """
        known = {token.content for token in self.later}
        named = [self.values.get(name, names.get(name)) for name in NAMES]
        named, *extra = (
            [_token(self.folder, value).content for value in some if value is not None]
            for some in (named, *(_listed(self.folder, self.values, n) for n in EXTRA))
        )
        special = {*named, *extra[-1]}  # as published, older lists do not count here
        later = [_special(t.content) if t.content in special else t for t in self.later]
        fresh = dict.fromkeys([*named, *extra[0], *extra[1]])
        return later + [_special(content) for content in fresh if content not in known]


def read(folder: str | Path) -> Settings:
    """The settings of the files in ``folder``; none of them must be there.

    Raises: DataError for a file that is damaged.
    """
    folder = Path(folder)
    values = _object(folder / CONFIG)
    listed = values.get("added_tokens_decoder")
    if listed is not None:
        if not isinstance(listed, dict):
            raise DataError(f"{folder / CONFIG}: added_tokens_decoder is no object")
        tokens = [(_id(folder, n), _token(folder, x)) for n, x in listed.items()]
    else:
        values |= _object(folder / SPECIAL)
        found = _object(folder / ADDED)
        tokens = [(_id(folder, n), _token(folder, x)) for x, n in found.items()]
    if len(tokens) > MOST:
        raise DataError(f"{folder} has {len(tokens)} added tokens; at most {MOST:,}")
    return Settings(folder, values, [x for _, x in sorted(tokens, key=lambda t: t[0])])


def _object(path):
    if not path.exists():
        return {}
    try:
        return bounded_json.read(path, dict)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _listed(folder, values, name):
    """Special tokens without a name of their own; models name some of them, too."""
    found = values.get(name) or []
    if not isinstance(found, list | dict):
        raise DataError(f"{folder}: {name} is no list of tokens")
    return [*(found.values() if isinstance(found, dict) else found)]


def _id(folder, value):
    text = str(value)
    if not text.isdecimal() or len(text) > 7:
        raise DataError(f"{folder}: an added token has the id {text[:99]!r}")
    return int(text)


def _token(folder, value):
    """The library's token for a spelling, or for an object with its fields."""
    fields = value if isinstance(value, dict) else {"content": value}
    content = fields.get("content")
    if not isinstance(content, str) or not content:
        raise DataError(f"{folder}: {str(value)[:99]!r} is no token")
    special = fields.get("special", False) is True
    normalized = fields.get("normalized", not special) is True
    flags = {flag: fields.get(flag, False) is True for flag in FLAGS}
    return tokenizers.AddedToken(
        content, special=special, normalized=normalized, **flags
    )


def _special(content):
    return tokenizers.AddedToken(content, special=True, normalized=False)
