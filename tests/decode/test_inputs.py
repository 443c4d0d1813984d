"""What callers hand to a model fits its tables, or is refused."""

import numpy as np
import pytest

from tests.models.tiny_text import TINY, V, tiny
from tfm_jax.decode.probing import outputs
from tfm_jax.decode.search import SPECIAL
from tfm_jax.interop.imported import Imported, ImportedDecoder, ImportedText
from tfm_jax.models import bert, gpt, transformer

IDS = np.ones((2, 8), int)
BERT = ImportedText(bert.Config(**TINY), None, None, {})
GPT = ImportedDecoder(gpt.Config(**TINY), None, None, {})
PAIR = transformer.Config(width=8, heads=2, source_vocab=9, target_vocab=9)
MARIAN = Imported(PAIR, None, None, SPECIAL, False)


def put(value):
    """IDS with one other value."""
    return np.where(np.arange(8) == 3, value, IDS)


REFUSED = [  # of no model that would be asked: it is None
    (BERT, dict(tokens=put(V)), f"tokens has {V}, outside of 0 .. {V - 1}"),
    (BERT, dict(tokens=put(-1)), "tokens has -1, outside of 0"),
    (BERT, dict(tokens=IDS * 1.0), "tokens must be integers .*float64"),
    (BERT, dict(tokens=IDS[0]), r"tokens must be integers \[B, T\], not int64 \(8,\)"),
    (BERT, dict(tokens=IDS, types=put(2)), "types has 2, outside of 0 .. 1"),
    (BERT, dict(tokens=IDS, types=put(-1)), "types has -1, outside of 0 .. 1"),
    (BERT, dict(tokens=IDS, types=IDS[:1]), r"types has the shape \(1, 8\); expected"),
    (BERT, dict(tokens=IDS, lengths=[8, -1]), "lengths has -1, outside of 1 .. 8"),
    (BERT, dict(tokens=IDS, lengths=[0, 8]), "lengths has 0, outside of 1 .. 8"),
    (BERT, dict(tokens=IDS, lengths=[20, 8]), "lengths has 20, outside of 1 .. 8"),
    (BERT, dict(tokens=IDS, lengths=[8]), r"lengths has the shape \(1,\); expected"),
    (BERT, dict(tokens=IDS, lengths=[8.0, 8.0]), "lengths must be integers"),
    (GPT, dict(tokens=IDS, types=IDS), "types: this model knows none"),
    (MARIAN, dict(source=put(9), target=IDS), "source has 9, outside of 0 .. 8"),
    (MARIAN, dict(source=IDS, target=put(-3)), "target has -3, outside of 0 .. 8"),
    (MARIAN, dict(source=IDS, target=IDS[:1]), "source has 2 rows, target 1"),
]


@pytest.mark.parametrize("asked, arrays, message", REFUSED)
def test_logits_of_what_no_table_has_are_refused(asked, arrays, message):
    with pytest.raises(ValueError, match=message):
        asked.logits(**arrays)


def test_texts_to_go_on_from_are_refused_alike():
    with pytest.raises(ValueError, match="source 1 has 9, outside of 0 .. 8"):
        MARIAN.decode([[3, 2], [9, 2]])
    with pytest.raises(ValueError, match=f"prompt 1 has -1, outside of 0 .. {V - 1}"):
        GPT.generate([[3, 2], [-1, 2]], max_tokens=1)


@pytest.mark.parametrize(
    "row, kinds, message",
    [
        ([1, V], [0, 0], f"text 1 has {V}, outside of 0 .. {V - 1}"),
        ([1, -1], [0, 0], "text 1 has -1, outside of 0"),
        ([1, 1], [0, 2], "types of text 1 has 2, outside of 0 .. 1"),
    ],
)
def test_rows_for_a_model_are_refused_alike(row, kinds, message):
    model, params = tiny(bert)
    rows, types = [np.array([1, 1]), np.array(row)], [np.zeros(2, int), np.array(kinds)]
    with pytest.raises(ValueError, match=message):
        outputs(model, params, rows, types=types)
