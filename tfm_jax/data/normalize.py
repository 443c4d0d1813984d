"""Text normalisation before tokenising, and the way back for output."""

from typing import NamedTuple


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


class Normalizer:
    """Normalises lines of one language; ``undo`` makes output readable again.

    Source: the Moses scripts lowercase, normalize-punctuation and tokenizer in the
    order of the Multi30k preparation (Elliott et al. 2016), by way of sacremoses.
    Deviates: languages that sacremoses does not know use its English rules.
    """

    def __init__(self, name, language):
        self.steps = NORMALIZERS[name]
        if self.steps.moses:
            import sacremoses

            self._punctuation = sacremoses.MosesPunctNormalizer(language)
            self._tokenizer = sacremoses.MosesTokenizer(language)
            self._detokenizer = sacremoses.MosesDetokenizer(language)

    def apply(self, line):
        """The line as the tokenizer shall see it."""
        if self.steps.lowercase:
            line = line.lower()
        if self.steps.moses:
            line = self._punctuation.normalize(line)
            line = self._tokenizer.tokenize(line, return_str=True)
        return line

    def undo(self, line):
        """Joins tokens to running text; lost case stays lost."""
        return self._detokenizer.detokenize(line.split()) if self.steps.moses else line
