import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.framing import cut_lengths, frame_ids, frame_rows, room
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer

TOKENIZER = tokenizer("wordpiece")


def popped(first, second, room):
    """Devlin et al. 2019's rule, a token at a time."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 50))
def test_the_longer_text_gives_way_as_in_berts_code(first, second, room):
    found = cut_lengths(first, second, room)
    assert tuple(map(int, found)) == popped(first, second, room)


def test_rows_are_those_of_transformers_bert_tokenizer():
    vocab = {t: n for n, t in enumerate(TOKENIZER.tokens(range(TOKENIZER.vocab)))}
    theirs = transformers.BertTokenizer(vocab=vocab)
    texts = [text[:60] for text in corpus()[:6]]
    firsts, seconds = texts[:3], texts[3:]
    ids = frame_ids(TOKENIZER)
    for pair in (None, seconds):
        rows = frame_rows(
            TOKENIZER.encode(firsts), pair and TOKENIZER.encode(pair), ids, 80
        )
        expected = theirs(firsts, pair, padding="max_length", max_length=80)
        assert rows.tokens.tolist() == expected["input_ids"]
        assert rows.types.tolist() == expected["token_type_ids"]
        assert rows.segments.tolist() == expected["attention_mask"]


def test_gpt1s_frame_has_its_own_tokens():
    names = ("_start_", "_delimiter_", "_classify_")
    ours = train_text_tokenizer("byte", [], special=names)
    ids = frame_ids(ours, "gpt1")
    assert ours.vocab == 259
    rows = frame_rows(ours.encode(["ab"]), ours.encode(["c"]), ids, 8)
    assert ours.tokens(rows.tokens[0, :6]) == [
        "_start_", "a", "b", "_delimiter_", "c", "_classify_"
    ]  # fmt: skip


def test_what_does_not_fit_is_an_error():
    ids = frame_ids(TOKENIZER)
    text = np.ones(10, np.int32)
    frame_rows([text], [text], ids, 23)
    assert room(23, pair=True) == 20 and room(12, pair=False) == 10
    with pytest.raises(DataError, match="text 1 has 23 tokens, .* a row has 22"):
        frame_rows([text], [text], ids, 22)
    with pytest.raises(DataError, match=r"no special token '\[CLS\]'"):
        frame_ids(tokenizer("byte_bpe"))
