"""What a vocabulary does not know is counted, and said where it is much."""

import logging

import numpy as np
import pytest

from tfm_jax.config import build, with_defaults
from tfm_jax.data import cache
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows import image_text, labelled, pairs, unlabelled
from tfm_jax.data.tokenizers import bilingual, unknown, vocabularies
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.workloads.retrieval import text_rows

THAI = "สวัสดีครับ ยินดีต้อนรับ"


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "byte_bpe", "byte"])
def test_the_id_of_the_unknown_is_what_a_strange_character_gives(kind):
    ours = train_text_tokenizer(kind, ["plain words"] * 9, vocab=300)
    (ids,) = ours.encode(["數"])
    assert (ours.unknown is None) == (kind in ("byte_bpe", "byte"))
    assert unknown.share([ids], ours.unknown) == (
        0.0 if ours.unknown is None else 0.5 if kind == "unigram" else 1.0
    )


def test_every_split_of_labelled_texts_reports_its_share_and_warns(tmp_path, caplog):
    lines = ["plain words\ta", "other words\tb"] * 4
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    (tmp_path / "valid.tsv").write_text(f"plain {THAI}\ta", "utf-8")
    files = {f"{s}_files": (str(tmp_path / f"{s}.tsv"),) for s in ("train", "valid")}
    cfg = build(labelled.Config, with_defaults(labelled.Config, files), "data")
    words = vocabularies.Config(kind="wordpiece", vocab=60)
    with caplog.at_level(logging.WARNING):
        data = prepare(labelled.KIND, cfg, words)
    assert data.report["train"]["unknown_share"] == 0.0
    valid = data.valid[0].tokens[0]
    texts = valid[
        (valid != 0) & ~np.isin(valid, data.tokenizer.ids_of("[CLS]", "[SEP]"))
    ]
    expected = np.mean(texts == data.tokenizer.special["[UNK]"])
    assert data.report["valid"]["unknown_share"] == pytest.approx(expected, abs=1e-4)
    assert expected > 0.5
    (warning,) = caplog.messages
    assert "tokens of the valid split are unknown to the tokenizer" in warning


def test_data_that_was_prepared_before_warns_again(tmp_path, caplog):
    (tmp_path / "train.tsv").write_text("plain words\ta\n" * 4)
    (tmp_path / "valid.tsv").write_text(f"plain {THAI}\ta", "utf-8")
    files = {f"{s}_files": (str(tmp_path / f"{s}.tsv"),) for s in ("train", "valid")}
    cfg = build(labelled.Config, with_defaults(labelled.Config, files), "data")
    words = vocabularies.Config(kind="wordpiece", vocab=60)
    for _ in range(2):
        caplog.clear()
        cache.prepared(labelled.KIND, cfg, words, tmp_path / "cache")
        (warning,) = caplog.messages
        assert "tokens of the valid split are unknown to the tokenizer" in warning


def test_a_translation_reports_both_sides(tmp_path, caplog):
    (tmp_path / "train.tsv").write_text("ab\tcd\n" * 4)
    (tmp_path / "valid.tsv").write_text("abé\téééé\n")
    files = {f"{s}_files": (str(tmp_path / f"{s}.tsv"),) for s in ("train", "valid")}
    cfg = pairs.Config(source="parallel", **files)
    with caplog.at_level(logging.WARNING):
        data = prepare(pairs.KIND, cfg, bilingual.Config(kind="character", vocab=20))
    assert data.report["train"]["unknown_share"] == {"source": 0.0, "target": 0.0}
    # EOS is a token, too
    assert data.report["valid"]["unknown_share"] == {"source": 0.25, "target": 0.8}
    assert [m.split("the ")[1] for m in caplog.messages] == ["tokens of ", "tokens of "]


@pytest.mark.parametrize("kind", ["wordpiece", "byte"])
def test_who_asks_about_unknown_words_is_told_of_the_first_text(kind, caplog):
    ours = train_text_tokenizer(kind, ["plain words"] * 9, vocab=300)
    ours = ours.with_special(["[CLS]", "[SEP]"])
    texts = ["plain words", f"plain {THAI}", THAI]
    for ask in (
        lambda: unlabelled.framed(ours, texts),
        lambda: unlabelled.framed(ours, texts[:1] * 3, texts),
        lambda: unlabelled.started(ours, texts, None),
    ):
        caplog.clear()
        ask()
        told = [m for m in caplog.messages if "does not know" in m]
        assert len(told) == (kind == "wordpiece")
        assert all(m.startswith("2 of 3 texts") and repr(texts[1]) in m for m in told)


def test_padding_is_not_unknown_where_it_has_the_same_number(caplog):
    special = ("[UNK]", "<image>", "<end>")
    texts = ["plain", "plain words", f"plain {THAI}"]
    ours = train_text_tokenizer("wordpiece", texts[:2], vocab=60, special=special)
    assert ours.unknown == 0
    text_rows(image_text.Config(length=30), ours, texts[:2])
    assert not caplog.messages
    text_rows(image_text.Config(length=30), ours, texts)
    (message,) = caplog.messages
    assert message.startswith("1 of 3 texts") and repr(texts[2]) in message
