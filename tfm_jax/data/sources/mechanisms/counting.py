"""Counting: documents whose topic and whose order are told by different words.

Each is about one topic and counts on, a sentence a line: "t3 17", "t3 18", "t3 19". So
a sentence that follows is told from one of another document by its topic, and from one
that should stand before it by its number alone: what Lan et al. 2020, arXiv:1909.11942,
section 3.1, say of next sentences and of their order in running text.

Two documents have one topic with a probability of one in ``topics``, and then nothing
tells them apart. Held-out documents begin elsewhere; their sentences, and pairs of
neighbours, may stand in those that are trained on, as nearly all do at the usual sizes.
"""

import dataclasses
from typing import Any

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.mechanisms.examples import MOST, span
from tfm_jax.knobs import check_numbers, knob, roles_of


@dataclasses.dataclass(frozen=True)
class Config:
    """How many documents there are, and of what."""

    ROLE = "training"

    topics: int = knob(16, "different ones, a word each", low=2, high=1_000)
    numbers: int = knob(
        200, "what is counted with: 0 to this minus 1", low=2, high=1_000
    )
    sentences: int = knob(12, "of a document", low=2, high=1_000)
    train: int = knob(2_000, "documents to train on, all different", low=1, high=MOST)
    valid: int = knob(200, "of the validation split; 0: absent", low=0, high=MOST)
    test: int = knob(0, "of the test split; 0: absent", low=0, high=MOST)
    seed: int = knob(0, "draws the documents", low=0)

    def __post_init__(self):
        check_numbers(self, "data.counting")


KNOBS = tuple(roles_of(Config, "counting."))


def load(cfg: Config, split: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The documents of one split: ((name, text) pairs, report).

    No topic begins with one number twice, in whatever split; those held out do not
    depend on ``train``. Raises: DataError if there are not so many.
    """
    starts = cfg.numbers - cfg.sentences + 1
    first, count = span(cfg, split)
    if first + count > (there := max(starts, 0) * cfg.topics):
        raise DataError(
            f"data.counting.{split}={count}: {cfg.topics} topics and "
            f"{cfg.sentences} of {cfg.numbers} numbers make {there:,} documents, of "
            "all splits; raise data.counting.topics or numbers"
        )
    drawn = np.random.default_rng(cfg.seed).permutation(there)[first : first + count]
    named = []
    for place in drawn.tolist():
        topic, start = divmod(place, starts)
        lines = (f"t{topic} {start + number}" for number in range(cfg.sentences))
        named.append((f"counting {topic} {start}", "\n".join(lines)))
    return named, {"topics": cfg.topics, "numbers": cfg.numbers}
