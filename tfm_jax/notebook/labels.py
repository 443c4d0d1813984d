"""Trained models that give texts labels, in a notebook."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from tfm_jax.data.rows import tagged
from tfm_jax.data.sources import squad
from tfm_jax.decode import probing
from tfm_jax.notebook.run import TextRun, are_pairs, listed, sides
from tfm_jax.runs import saved
from tfm_jax.runs.log import counted
from tfm_jax.workloads import span


class LabelledRun(TextRun):
    """A model that has learnt labels; their names are ``labels``."""

    __slots__ = ()

    @property
    def labels(self) -> list[str]:
        """Names in the order of the model's outputs; [] if it predicts a number.

        Numbers, if the model was trained elsewhere and its folder has no names.
        """
        return saved.label_names(self)


class ClassifyRun(LabelledRun):
    """A model that tells classes of texts, or pairs of texts, apart."""

    __slots__ = ()

    def classify(self, texts: Any) -> pd.DataFrame:
        """Probability of each label, a column each; or ``score`` if that was learnt.

        Args: texts: texts, or (first, second) pairs, as the run has learnt; "" is one.
        Returns: a row a text, which is its index.
        """
        if isinstance(texts, str) or not are_pairs(texts := list(texts)):
            texts = listed(texts, "classify")
        pairs, learnt = are_pairs(texts), bool(self.config.data.layout().second)
        if len(texts) and pairs != learnt:
            kinds = ("single texts", "pairs of texts")
            raise ValueError(
                f"the run has learnt {kinds[learnt]}, these are {kinds[pairs]}"
            )
        logits = self._over(
            probing.label_logits, self._probes(texts, "classify")
        ).reshape(len(texts), self.config.model.labels)
        index = pd.MultiIndex.from_tuples(texts) if pairs else list(texts)
        if not self.labels:
            return pd.DataFrame({"score": logits[:, 0]}, index=index)
        chances = np.asarray(jax.nn.softmax(logits, axis=-1))
        return pd.DataFrame(chances, columns=self.labels, index=index)


class TagRun(LabelledRun):
    """A model that tags words."""

    __slots__ = ()

    def tag(self, texts: Sequence[str]) -> pd.DataFrame:
        """The likeliest ``tag`` of each ``word`` and its ``probability``.

        Args: texts: words with white space between them.
        Returns: a row a word; ``text`` is a number from 0. A word that the tokenizer
            has no token for has no row.
        """
        words = [text.split() for text in listed(texts, "tag")]
        lines = [" ".join(some) for some in words]
        asked = self._probes(lines, "tag")
        logits = self._over(probing.outputs, asked)
        records = []
        encoded = self.tokenizer.encode_with_offsets(lines)
        for number, (_, offsets) in enumerate(encoded):
            columns, which = tagged.first_tokens(words[number], offsets)
            chances = jax.nn.softmax(logits[number][1 + columns], axis=-1)
            best = np.argmax(chances, axis=-1)
            records += [
                (number, words[number][word], self.labels[tag], float(chance[tag]))
                for word, tag, chance in zip(which, best, chances, strict=True)
            ]
        return pd.DataFrame(records, columns=["text", "word", "tag", "probability"])


class SpanRun(TextRun):
    """A model that finds answers to questions in texts."""

    __slots__ = ()

    def answer(
        self, pairs: Sequence[tuple[str, str]], *, most: int = 30, margin: float = 0.0
    ) -> pd.DataFrame:
        """The span of each text that answers a question.

        Args:
            pairs: (question, text), texts of any length: windows are taken over them.
            most: tokens of an answer.
            margin: of the logits, over no answer; below it the answer is "". SQuAD 1.1,
                where all questions have an answer: ``-math.inf``.
        Returns: a row a pair: ``question``, ``answer``, its ``margin`` over no answer,
            and where it begins and ends in the text, ``start`` and ``end``. A text
            without a token has no answer, its margin is -inf.
        """
        asked, texts = sides(pairs, "answer")
        if asked and texts is None:
            raise TypeError("answer takes (question, text) pairs")
        questions = [
            squad.Question(str(n), question, text, (), ())
            for n, (question, text) in enumerate(zip(asked, texts or [], strict=True))
        ]
        parts = self.model, self.params, self.tokenizer, questions, self.config.data
        with counted(len(questions)) as done:
            found = span.find_answers(*parts, most=most, on_batch=done)
        nothing: dict[str, Any] = dict(text="", start=0, end=0)
        found = [x if x.margin >= margin else x._replace(**nothing) for x in found]
        table = pd.DataFrame(found, columns=span.Answer._fields)
        table = table.rename(columns={"text": "answer"})
        return table.assign(question=asked)
