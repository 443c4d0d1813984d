"""Bytes to text, normalisation before tokenising, and the way back for output."""

import re
from typing import NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.knobs import ConfigError


class Steps(NamedTuple):
    """Which steps a normaliser takes, in this order."""

    lowercase: bool = False
    moses: bool = False


NORMALIZERS = {
    "none": Steps(),
    "lowercase": Steps(lowercase=True),
    "moses": Steps(moses=True),  # Koehn et al. 2007, the Moses scripts
    "moses_lowercase": Steps(lowercase=True, moses=True),  # Multi30k "lc.norm.tok"
}


# those for which sacremoses has rules of its own
MOSES_LANGUAGES = (
    *("as", "bn", "ca", "cs", "de", "el", "en", "es", "et", "fi", "fr", "ga", "gu"),
    *("hi", "hu", "is", "it", "ja", "kn", "ko", "lt", "lv", "ml", "mni", "mr", "nl"),
    *("or", "pa", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "ta", "tdt", "te", "yue"),
    "zh",
)


def moses_language(language: str) -> str:
    """The code that sacremoses has for ``language``: "en" for "EN", "en-GB", "en_US".

    Where it has no rules of its own for it, ``language`` as it is.
    """
    code = re.split("[-_]", language.lower())[0]
    return code if code in MOSES_LANGUAGES else language


def check(name: str, **languages: str) -> None:
    """Refuses languages that the normaliser has no rules for.

    Args: languages: of each side, by knob of the data section.
    Raises: ConfigError naming the knob and the legal choices.
    """
    for knob, language in languages.items():
        if NORMALIZERS[name].moses and moses_language(language) not in MOSES_LANGUAGES:
            raise ConfigError(
                f"data.{knob}={language!r} has no rules with data.normalize={name}; "
                f"choose from ({', '.join(MOSES_LANGUAGES)}) or data.normalize=none"
            )


class Normalizer:
    """Normalises lines of one language; ``undo`` makes output readable again.

    Source: the Moses scripts lowercase, normalize-punctuation and tokenizer in the
    order of the Multi30k preparation (Elliott et al. 2016), by way of sacremoses.
    """

    def __init__(self, name: str, language: str) -> None:
        self.steps = NORMALIZERS[name]
        if self.steps.moses:
            import sacremoses

            language = moses_language(language)
            self._punctuation = sacremoses.MosesPunctNormalizer(language)
            self._tokenizer = sacremoses.MosesTokenizer(language)
            self._detokenizer = sacremoses.MosesDetokenizer(language)

    def apply(self, line: str) -> str:
        """The line as the tokenizer shall see it."""
        if self.steps.lowercase:
            line = line.lower()
        if self.steps.moses:
            line = self._punctuation.normalize(line)
            line = self._tokenizer.tokenize(line, return_str=True)
        return line

    def undo(self, line: str) -> str:
        """Joins tokens to running text; lost case stays lost."""
        return self._detokenizer.detokenize(line.split()) if self.steps.moses else line


def decode(data: bytes, invalid_utf8: str, where: object) -> tuple[str, bool]:
    """UTF-8 bytes as text: (text, whether bytes were replaced).

    Args:
        data: the bytes of one line.
        invalid_utf8: "error", or "replace" to put U+FFFD where bytes are wrong.
        where: names the line in the message.

    Raises: DataError with the place of the first wrong byte.
    """
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError as error:
        if invalid_utf8 == "replace":
            return data.decode("utf-8", errors="replace"), True
        raise DataError(
            f"{where}, byte {error.start + 1} ({data[error.start]:#04x}) is not UTF-8; "
            f"mend it or set data.invalid_utf8=replace"
        ) from error
