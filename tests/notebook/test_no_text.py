"""Texts and tables with little or nothing in them."""

import json

import jax
import numpy as np
import pytest

from tests.notebook.random_runs import ALONE, WINDOWS, logits_of, made


def test_a_mask_is_filled_with_words_of_the_tokenizer_alone():
    run = made("masked_lm", "bert", "masked_lm", sizes=dict(vocab=80), data=ALONE)
    count = run.tokenizer.vocab
    found = run.fill_mask(["a [MASK]"], top=79)
    assert len({*found.token} - {""}) == len(found) == count < 79
    (row,) = run.tokenizer.encode(["a"])
    cls, sep, mask = run.tokenizer.ids_of("[CLS]", "[SEP]", "[MASK]")
    logits = logits_of(run, np.array([cls, *row, mask, sep]))[2]
    wanted = np.sort(jax.nn.softmax(logits)[:count])[::-1]  # of the whole table
    np.testing.assert_allclose(found.probability, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="top=0 must be 1 or more"):
        run.fill_mask(["a [MASK]"], top=0)


def test_a_text_without_tokens_has_no_score_and_is_named(causal, started, masked):
    for run in (causal, started, masked):
        with pytest.raises(ValueError, match="text 1, '', has no token to score"):
            run.score(["the cat", ""])
        assert run.score([]).empty
    with pytest.raises(ValueError, match="text 0, 'a', .*; nothing but a prefix"):
        causal.score(["a"])
    assert causal.score(["a"], prefix="the").tokens.tolist() == [1]
    assert started.score(["a"]).tokens.tolist() == [1]


def test_an_empty_list_gives_an_empty_answer(causal, masked, tmp_path):
    assert causal.generate([]) == [] and masked.fill_mask([]).empty
    assert causal.embed([]).shape == masked.embed([]).shape == (0, 8)
    assert causal.few_shot([], [("a", "yes")]).empty
    report = {"train": {"labels": ["O", "A", "B"]}}
    (tmp_path / "data_report.json").write_text(json.dumps(report))
    settings = dict(sizes=dict(labels=3), path=tmp_path)
    run = made("classify", "bert", "classify", **settings)
    assert run.classify([]).columns.tolist() == ["O", "A", "B"]
    assert made("tag", "bert", "tag", **settings).tag([]).empty
    assert made("span", "bert", "span", data=WINDOWS).answer([]).empty
    run = made("replaced_tokens", "electra", "pretraining")
    assert run.detect_replaced([]).empty


def test_an_empty_text_is_framed_like_any_other(masked):
    assert np.isfinite(masked.embed([""])).all()
    run = made("span", "bert", "span", data=WINDOWS)
    found = run.answer([("a dog", ""), ("a dog", "the mat")], margin=-np.inf)
    assert found.answer[0] == "" and found.answer[1] in "the mat"
    assert found.margin[0] == -np.inf < found.margin[1]
