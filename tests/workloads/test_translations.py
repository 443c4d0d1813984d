"""Lines in, lines out: what translation reads, writes and scores."""

import io
import sys
import types

import hypothesis
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sacrebleu
from hypothesis import strategies

from tfm_jax.data.batch import PairBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows import pairs
from tfm_jax.data.sources import text_files
from tfm_jax.data.sources.bitext import SOURCES, Pairs
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.data.tokenizers.normalize import Normalizer
from tfm_jax.decode.search import decode
from tfm_jax.layers.layout import init_params
from tfm_jax.metrics.bleu import text_scores
from tfm_jax.models import transformer
from tfm_jax.objectives.translation import example
from tfm_jax.runs import pictures, saved
from tfm_jax.runs.log import MetricsLog
from tfm_jax.runs.workdir import replace
from tfm_jax.settings.sections import EvalConfig
from tfm_jax.train import finish, modes
from tfm_jax.train.assemble import left_out
from tfm_jax.workloads import translation

LONGEST = 12
GREEDY = EvalConfig(beam=1, max_length_offset=50)
TOKENIZER = bilingual.train_tokenizer(bilingual.Config(kind="byte"), [], [])


@pytest.fixture(scope="module")
def model():
    """(model, parameters) with a table of so many positions."""
    sizes = dict(width=8, heads=2, ffn_width=8, encoder_depth=1, decoder_depth=1)
    vocab = dict(
        source_vocab=TOKENIZER.source_vocab, target_vocab=TOKENIZER.target_vocab
    )
    model = transformer.Transformer(
        transformer.Config(**sizes, **vocab, positions="learned", max_length=LONGEST)
    )
    init = jax.jit(lambda key: init_params(model, key, example()))
    return model, init(jax.random.key(0))


def translated(model, lines, **options):
    return translation.translate(*model, TOKENIZER, lines, GREEDY, **options)


def test_a_line_without_text_is_a_line_without_text(model):
    assert translated(model, ["", " ", "\t", "\u3000\xa0"]) == [""] * 4
    assert translated(model, []) == []
    first, blank, second = translated(model, ["ab", "", "cd"])
    assert blank == ""
    assert [first, second] == translated(model, ["ab", "cd"])


def test_sequences_beyond_a_learned_table_are_refused(model):
    fits, beyond = "x" * (LONGEST - 1), "x" * LONGEST
    translated(model, [fits])  # with EOS it is as long as the table
    with pytest.raises(ValueError, match=r"13 tokens.* takes 12 \(model\.max_length\)"):
        translated(model, [fits, beyond])
    row = np.ones((1, LONGEST + 1), np.int32)
    for source, target in ((row, row[:, 1:]), (row[:, 1:], row)):
        batch = PairBatch(source, source, None, target, target, target, None)
        with pytest.raises(ValueError, match="longer than model.max_length=12"):
            jax.eval_shape(
                lambda p, b: model[0].apply({"params": p}, b, train=False),
                *(model[1], batch),
            )


def test_no_hypothesis_grows_beyond_a_learned_table(model):
    (source,) = TOKENIZER.encode(["ab"], "source")
    [(tokens, _, lengths)] = decode(*model, [source], beam=2, offset=50, returned=2)
    assert tokens.shape[-1] == LONGEST and lengths.max() <= LONGEST


def test_a_held_out_source_beyond_a_learned_table_is_refused_at_the_start(model):
    def experiment(longest):
        return types.SimpleNamespace(model=types.SimpleNamespace(longest=longest))

    def check(longest):
        data = types.SimpleNamespace(tokenizer=TOKENIZER)
        evaluator = types.SimpleNamespace(experiment=experiment(longest), data=data)
        translation.TranslationEvaluator._check_sources(
            evaluator, Pairs(["abc"], ["x"])
        )

    check(4)
    with pytest.raises(DataError, match=r"4 tokens.* takes 3 \(model\.max_length\)"):
        check(3)


# Standard input ----------------------------------------------------------------------


def echo(run, lines, **options):
    return lines


def piped(monkeypatch, content, translate=echo, invalid="error"):
    """What ``--mode=translate`` writes for bytes on its standard input."""
    data = types.SimpleNamespace(invalid_utf8=invalid)
    experiment = types.SimpleNamespace(task="translation", data=data)
    run = types.SimpleNamespace(experiment=experiment)
    monkeypatch.setattr(modes, "chosen", lambda *_: run)
    monkeypatch.setattr(saved, "translate", translate)
    stdin, stdout = io.TextIOWrapper(io.BytesIO(content), "ascii"), io.StringIO()
    modes.translate("w", config=None, stdin=stdin, stdout=stdout)
    return stdout.getvalue()


CONTENTS = [
    *(b"", b"\n", b"a", b"a\n", b"\n\na\n", b"\xef\xbb\xbfa\nb", b"a\r\nb\r\n"),
    *("a\rb\n\u2028c\n\x85d\n\x0ce\n".encode(), b"\xef\xbb\xbf\xef\xbb\xbf\n\t\n"),
]


@pytest.mark.parametrize("content", CONTENTS)
def test_standard_input_has_the_lines_of_a_file(monkeypatch, tmp_path, content):
    path = tmp_path / "lines"
    path.write_bytes(content)
    expected, _ = text_files.read_lines(path, "--input", "error")
    read = []

    def translate(run, lines, **options):
        read.extend(lines)
        return ["x" for _ in lines]

    written = piped(monkeypatch, content, translate)
    assert read == expected
    assert written == "x\n" * len(expected)


def test_what_is_not_utf_8_on_standard_input_is_named_or_replaced(monkeypatch):
    content = b"ok\nbad \xe9 byte\n"
    with pytest.raises(DataError, match=r"standard input: line 2, byte 5 \(0xe9\)"):
        piped(monkeypatch, content)
    assert piped(monkeypatch, content, invalid="replace") == "ok\nbad \ufffd byte\n"


def test_a_line_that_is_too_long_on_standard_input_is_a_data_error(monkeypatch, model):
    def translate(run, lines, **options):
        return translated(model, lines, **options)

    for chunk in (1, 3, 10):  # blank lines count, and those of chunks before
        monkeypatch.setattr(modes, "CHUNK", chunk)
        with pytest.raises(DataError, match="^standard input: line 5 has 13 tokens"):
            piped(monkeypatch, b"\nab\n\n\nxxxxxxxxxxxx\n", translate)


# Files of results --------------------------------------------------------------------

TEXT = strategies.text(strategies.sampled_from('ab \t\n\r\\nrt\x00\x1f\u2028é\x85"'))


@hypothesis.given(strategies.lists(strategies.tuples(TEXT, TEXT, TEXT)))
def test_what_is_written_of_translations_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "translations.txt"
    replace(path, translation.to_table(rows))
    assert translation.read_translations(path) == rows
    lines = path.read_bytes().decode().split("\n")
    assert len(lines) == len(rows) + 2  # a header, and an end
    assert all(line.count("\t") == 2 for line in lines[:-1])


def held_out(test, samples=2):
    """An evaluator of pairs that are translated as "x<tab>y<newline>z" and "f"."""
    evaluator = object.__new__(translation.TranslationEvaluator)
    evaluator.cfg = types.SimpleNamespace(
        samples=samples, average_last=1, pictures=True
    )
    cfg = pairs.Config(source_length=4, target_length=4)
    evaluator.experiment = types.SimpleNamespace(data=cfg)
    evaluator.data = types.SimpleNamespace(
        tokenizer=TOKENIZER, valid=[], test=["rows"], examples={"test": test}
    )
    evaluator.decoder, evaluator.variants = "decoder", {}
    evaluator.loss = lambda *_, **__: {"nll": 1.0}
    evaluator.translations = lambda *_, **__: ({"bleu": 2.0}, ["x\ty\nz", "f"])
    return evaluator


def test_a_tab_is_a_character_like_any_other_in_results(tmp_path, capsys, monkeypatch):
    pairs = Pairs(["a\tb", "c"], ["d\te", "f"], ["d\te", "f"])
    run = types.SimpleNamespace(
        evaluator=held_out(pairs),
        experiment=types.SimpleNamespace(workload=translation.WORKLOAD),
        workdir=tmp_path,
        step=1,
        state=None,
        poll=None,
        stopped="",
    )
    monkeypatch.setattr(finish, "averaged", lambda params: params)
    for name in ("_attention", "_draw"):
        monkeypatch.setattr(finish, name, lambda *_: None)
    log = types.SimpleNamespace(write=lambda *_: None)
    assert finish.finish(run, log)["test"] == {"nll": 1.0, "bleu": 2.0}
    assert (tmp_path / "results.json").exists()
    found = translation.read_translations(tmp_path / "translations-test.txt")
    assert found == [("a\tb", "x\ty\nz", "d\te"), ("c", "f", "f")]
    assert capsys.readouterr().out.count("\n") == 3  # scores and two samples


def test_the_picture_is_of_a_pair_that_fits_a_row():
    pairs = Pairs(["", "abcdef", "ab"], ["x", "y", "z"])
    assert held_out(pairs).pictured == ("decoder", TOKENIZER, "ab", "z")
    assert held_out(Pairs(["abcdef"], ["y"])).pictured is None


def test_a_finished_run_leaves_its_curve_and_its_attention(model, tmp_path, capsys):
    with MetricsLog(tmp_path, trackers=()) as log:
        for step in (1, 2):
            log.write(step, "train", {"loss": 1.0 / step})
    module, params = model
    workload = translation.WORKLOAD
    maps = pictures.attention_maps(module, params, TOKENIZER, "ab", "cd")
    finish._draw(tmp_path, workload, maps, {}, {})
    said = capsys.readouterr().out
    for name in ("curve.png", "attention.png"):
        picture = plt.imread(tmp_path / name)  # there, and a picture
        assert picture.std() > 0 and name in said
    finish._draw(tmp_path, workload, None, {}, {})
    assert "attention" not in capsys.readouterr().out


# Scores ------------------------------------------------------------------------------

CHINESE = [f"我今天在北京的大学里学习第{n}课" for n in range(40)]
OTHER = [line.replace("大学", "中学") for line in CHINESE]


def scores(language, hypotheses=OTHER, references=CHINESE):
    normalizer = Normalizer("none", language)
    texts = hypotheses, references, references
    return text_scores(*texts, normalizer, language, ("bleu", "chrf"))


def test_numbers_have_no_bleu_and_texts_have_every_score():
    normalizer = Normalizer("none", "de")
    texts = ["einundzwanzig"], ["einundzwanzig"], ["einundzwanzig"]
    for source, names in (
        ("numerals", {"chrf", "exact_match"}),
        ("parallel", {"bleu", "bleu_tokenized", "chrf", "exact_match"}),
    ):
        asked = SOURCES[source].scores
        found = text_scores(*texts, normalizer, "de", asked)
        assert {n for n in found if not n.endswith("_signature")} == names
        assert found["exact_match"] == 1.0 and found["chrf"] == pytest.approx(100)


@pytest.mark.parametrize("language", ["zh", "zh-TW", "zho_Hans", "ZH", "cmn"])
def test_chinese_is_scored_by_sacrebleu_s_tokenizer_for_it(language):
    expected = sacrebleu.corpus_bleu(OTHER, [CHINESE], tokenize="zh").score
    found = scores(language)
    assert found["bleu"] == expected > 50
    assert "tok:zh" in found["bleu_signature"]


@pytest.mark.parametrize("language", ["ja", "jpn", "ko", "th", "km", "lo", "my", "bo"])
def test_a_language_without_a_tokenizer_that_is_installed_is_scored_by_characters(
    language, monkeypatch
):
    for package in ("MeCab", "mecab_ko"):
        monkeypatch.setitem(sys.modules, package, None)
    expected = sacrebleu.corpus_bleu(OTHER, [CHINESE], tokenize="char").score
    assert scores(language)["bleu"] == expected > 50


def test_others_are_scored_as_papers_report_it():
    hypotheses, references = ["das ist gut, ja"], ["das ist gut!"]
    expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
    found = scores("de", hypotheses, references)
    assert found["bleu"] == expected
    assert "tok:13a" in found["bleu_signature"]


# Held-out pairs ----------------------------------------------------------------------


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("text", ["a text too long for a row\tx", "\tx"])
def test_held_out_pairs_that_are_all_left_out_are_refused_before_training(
    tmp_path, split, text
):
    for name, line in (("train", "ab\tcd"), ("held", text)):
        (tmp_path / name).write_text(f"{line}\n" * 3)
    files = {
        "train_files": (f"{tmp_path}/train",),
        f"{split}_files": (f"{tmp_path}/held",),
    }
    cfg = pairs.Config(source="parallel", source_length=8, **files)
    with pytest.raises(
        DataError, match=rf"the {split} split: none of 3 .*source_length=8"
    ):
        prepare(pairs.KIND, cfg, bilingual.Config(kind="byte"))


def test_what_is_left_out_of_every_split_is_in_the_report(tmp_path):
    path = tmp_path / "pairs"
    path.write_text("ab\tcd\n\tx\nfar too long for it\ty\n")
    files = dict.fromkeys(("train_files", "valid_files", "test_files"), (str(path),))
    cfg = pairs.Config(source="parallel", source_length=8, **files)
    found = prepare(pairs.KIND, cfg, bilingual.Config(kind="byte")).report
    for split in ("train", "valid", "test"):
        counts = [found[split][name]["pairs"] for name in ("empty", "overlong")]
        assert (*counts, found[split]["kept"]) == (1, 1, 1)
    said = " (left out: 2 of train, 2 of valid, 2 of test)"
    assert left_out(found) == said


def test_what_is_left_out_is_said_whatever_leaves_it_out():
    assert left_out({}) == ""
    assert left_out({"train": {"read": 3, "kept": 3}, "fingerprint": "x"}) == ""
    malformed = {"read": 1_500, "kept": 1_500, "malformed": {"lines": 1_000}}
    misplaced = {"files": {"a": {"misplaced": 2}, "b": {"misplaced": 1}}}
    found = left_out({"train": malformed, "valid": misplaced, "test": {}})
    assert found == " (left out: 1,000 of train, 3 of valid)"
