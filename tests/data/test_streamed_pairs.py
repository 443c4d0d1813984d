"""Sentence pairs that are read, normalised, tokenised and kept piece by piece."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfm_jax.data import cache
from tfm_jax.data.arrays import tokenized
from tfm_jax.data.batches import train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import digest_of, prepare
from tfm_jax.data.rows.pairs import KIND, Config
from tfm_jax.data.sources import bitext, text_files
from tfm_jax.data.sources.bitext import Bitext
from tfm_jax.data.tokenizers import bilingual, training_texts

LETTERS = st.text(st.sampled_from("ab \r\ufeffé中\u2028"), max_size=12)
BYTES = bilingual.Config(kind="byte")
LENGTHS = dict(source_length=12, target_length=9, bucket_lengths=(6,))


def write(folder, pairs):
    """Two files, one of them packed, and one of columns."""
    texts = ["\n".join(pair[side] for pair in pairs).encode() for side in (0, 1)]
    paths = [folder / name for name in ("source", "target.gz", "both.tsv")]
    paths[0].write_bytes(texts[0])
    paths[1].write_bytes(gzip.compress(texts[1]))
    paths[2].write_bytes("\n".join(map("\t".join, pairs)).encode())
    return tuple(map(str, paths[:2])), (str(paths[2]),)


def outcome(cfg, tokenizer_cfg=BYTES):
    """All that comes of a data section: its data, or what is wrong with it."""
    try:
        data = prepare(KIND, cfg, tokenizer_cfg)
    except DataError as error:
        return str(error)
    return data.fingerprint, data.report, digest_of(data.train), data.examples


@pytest.mark.parametrize("batching", ["pack", "bucket", "fixed"])
@given(
    pairs=st.lists(st.tuples(LETTERS, LETTERS), max_size=9),
    policies=st.tuples(*[st.sampled_from(["drop", "keep", "error"])] * 2),
    block=st.integers(1, 30),
    part=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_rows_do_not_depend_on_the_pieces_that_are_read(
    tmp_path_factory, batching, pairs, policies, block, part
):
    for files in write(tmp_path_factory.mktemp("pairs"), pairs):
        cfg = Config(
            source="parallel",
            train_files=files,
            valid_files=files,
            batching=batching,
            **dict(zip(("empty", "overlong"), policies, strict=True)),
            **LENGTHS,
        )
        at_once = outcome(cfg)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_files, "_BLOCK", block)
            patch.setattr(bitext, "PART", part)
            assert outcome(cfg) == at_once


@pytest.fixture
def corpus(tmp_path):
    """Four hundred pairs, read in pieces of about twenty."""
    pairs = [(f"the number {n}", f"die Zahl {n * 7}" * (1 + n % 3)) for n in range(400)]
    files, _ = write(tmp_path, pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitext, "PART", 1_000)
        yield Config(source="parallel", train_files=files, valid_files=files)


class Killed(BaseException):
    pass


def batches(data, cfg):
    made = train_batches(cfg, data, batch_tokens=256, total_batches=6, seed=1)
    return digest_of(made)


def test_a_preparation_that_was_stopped_goes_on(corpus, tmp_path, monkeypatch):
    section = bilingual.Config(kind="bpe", vocab=300)
    encode, calls, dies_at = bilingual.Tokenizer.encode, [], -1

    def counting(self, lines, side):
        calls.append(lines)
        if len(calls) == dies_at:
            raise Killed
        return encode(self, lines, side)

    monkeypatch.setattr(bilingual.Tokenizer, "encode", counting)
    monkeypatch.setattr(tokenized, "_MOST_THREADS", 1)
    want = prepare(KIND, corpus, section)
    entire, dies_at = len(calls), 17
    calls.clear()
    with pytest.raises(Killed):
        cache.prepared(KIND, corpus, section, tmp_path / "cache")
    (work,) = (tmp_path / "cache").glob(".making-*")
    noted = len((work / "train.journal").read_bytes().splitlines()) - 1
    assert 1 <= noted < 9
    with open(work / "train.target_ids", "ab") as file:
        file.write(b"half of a piece")
    trained, dies_at = [], -1
    monkeypatch.setattr(bilingual, "make", lambda *args: trained.append(args))
    calls.clear()
    resumed = cache.prepared(KIND, corpus, section, tmp_path / "cache")
    assert len(calls) == entire - 2 * noted
    assert not trained and not [*(tmp_path / "cache").glob(".making-*")]
    assert resumed.fingerprint == want.fingerprint and resumed.report == want.report
    assert batches(resumed, corpus) == batches(want, corpus)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_tokenizer_reads_a_sample_of_many_pairs_and_counts_in_all(monkeypatch, kind):
    read = []

    def lines():
        for n in range(1_000):
            read.append(n)
            yield f"{n:04}"

    class Side:
        def __iter__(self):
            return lines()

        def __len__(self):
            return 1_000

    monkeypatch.setattr(training_texts, "MOST", 400)
    pairs = Bitext(Side(), Side(), (lambda text: read.append(text) or text, str))
    cfg = bilingual.Config(kind=kind, vocab=300)
    tokenizer = bilingual.make(cfg, pairs)
    normalised = {text for text in read if isinstance(text, str)}
    if kind == "character":
        assert len(normalised) == 1_000 and tokenizer.source_vocab == 4 + 10
    else:
        assert {*np.diff(sorted(map(int, normalised))).tolist()} == {10}
