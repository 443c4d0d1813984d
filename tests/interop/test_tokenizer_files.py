"""An exported folder gives the same on *text* in transformers as the run does here."""

import json

import pytest

from tests.data.tokenizers import published_folders
from tests.data.tokenizers.published_folders import AWKWARD, corpus
from tests.models.tiny import tiny as tiny_pairs
from tests.models.tiny_text import tiny
from tfm_jax.data.rows import framing, unlabelled
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.interop import texts, tokenizer_files, verify, workdirs
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.tensors import label_names
from tfm_jax.models import bert
from tfm_jax.notebook import load_run
from tfm_jax.settings import experiment
from tfm_jax.settings.experiment import resolve

torch = pytest.importorskip("torch", reason="transformers computes with it")
transformers = pytest.importorskip("transformers", reason="it is what reads the files")

PLAIN = [text for text in AWKWARD if "[CLS]" not in text]  # special there, text here
LINES = [*PLAIN, *corpus()[:3]]
PIECES = published_folders.tokenizer("wordpiece")
FRAMED = {  # tokenizer, frame
    "bert": (PIECES, "bert"),
    "albert": (published_folders.tokenizer("unigram"), "bert"),
    "gpt1": (
        published_folders.tokenizer("byte_bpe").with_special(framing.FRAMES["gpt1"]),
        "gpt1",
    ),
}


@pytest.mark.parametrize("name", FRAMED)
def test_one_text_and_two_have_the_same_ids_and_types(name, tmp_path):
    tokenizer, frame = FRAMED[name]
    around = tokenizer_files.framed(frame, tokenizer.special)
    tokenizer_files.write(tmp_path, tokenizer, around, longest=10_000, types=True)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert TextTokenizer.load(tmp_path).encode(LINES[:1])[0].tolist() == (
        tokenizer.encode(LINES[:1])[0].tolist()  # and what is around is not the text
    )
    for seconds in (None, LINES[::-1]):
        ours = unlabelled.framed(tokenizer, LINES, seconds, frame=frame)
        found = theirs(LINES, seconds)
        assert found["input_ids"] == [row.tolist() for row in ours.rows]
        assert found["token_type_ids"] == [row.tolist() for row in ours.types]
    assert theirs.decode(theirs("the end")["input_ids"]).startswith(around.begin)


@pytest.mark.parametrize("separator", ["", "<|endoftext|>"])
def test_a_language_model_reads_its_separator_in_front(separator, tmp_path):
    tokenizer = published_folders.tokenizer("byte_bpe")
    around = tokenizer_files.Around(begin=separator)
    tokenizer_files.write(tmp_path, tokenizer, around, longest=64, types=False)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    start = tokenizer.special[separator] if separator else None
    expected = unlabelled.started(tokenizer, PLAIN, start).rows
    assert theirs(PLAIN)["input_ids"] == [row.tolist() for row in expected]
    assert "token_type_ids" not in theirs(PLAIN)
    again = TextTokenizer.load(tmp_path)
    assert tokenizer_files.begins_with(again) == separator


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", bilingual.KINDS)
def test_a_translation_has_the_same_ids_and_reads_them_back(kind, shared, tmp_path):
    lines = ["one two <pad> three", "four  five Ünï 數", *LINES[:4]]
    cfg = bilingual.Config(kind=kind, vocab=400, shared=shared)
    ours = bilingual.train_tokenizer(cfg, lines, [line.upper() for line in lines])
    tokenizer_files.write_pairs(tmp_path, ours, longest=512)
    where = {"source": tmp_path, "target": tmp_path}
    if not shared:
        where["target"] = tmp_path / tokenizer_files.TARGET
    asked = [*lines, "two <eos> <unk> ŝ"]
    for side, folder in where.items():
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [row.tolist() for row in ours.encode(asked, side)]
        assert theirs(asked)["input_ids"] == ids
        assert len(theirs) == getattr(ours, f"{side}_vocab")
        known = [x for x in ids if bilingual.UNK not in x]
        read = [theirs.decode(x, skip_special_tokens=True) for x in known]
        assert read == ours.decode(known, side)
        assert theirs.pad_token_id == bilingual.PAD
        assert theirs.eos_token_id == bilingual.EOS


def run_of(workdir, task, model, params, tokenizer, report, **data):
    """A workdir of a run that made no step."""
    rows = experiment.Experiment
    sections = [name for name in rows._fields if name not in rows._field_defaults]
    name = type(model).__name__.lower()
    words = {} if task == "translation" else {"kind": "published", "file": "unread"}
    config = dict.fromkeys(sections, {}) | dict(seed=0, model_name=name, task=task)
    config |= dict(model=vars(model.cfg), data=data, tokenizer=words)
    built = resolve(config).complete(tokenizer)
    workdirs.write_run(workdir, built, tokenizer, params, report)
    return load_run(workdir)


def test_a_classifier_gives_the_same_probabilities_of_text_by_the_same_names(tmp_path):
    names = ["dull", "fine", "great"]
    model, params = tiny(
        bert, vocab=PIECES.vocab, max_length=64, depth=1, head="classify", labels=3
    )
    run = run_of(
        *(tmp_path / "run", "classify", model, params, PIECES),
        {"train": {"labels": names}},
        length=64,
    )
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "new")]) == 0
    ask = transformers.pipeline("text-classification", str(tmp_path / "new"))
    lines = ["a small film", "Naïve, and not good!"]
    expected = run.classify(lines)
    for row, found in enumerate(ask(lines, top_k=None)):
        chances = {one["label"]: one["score"] for one in found}
        assert list(expected.columns) == names and set(chances) == set(names)
        for name in names:
            assert abs(chances[name] - expected[name].iloc[row]) < 1e-5
    # and it comes back with them
    assert main(["import", str(tmp_path / "new"), str(tmp_path / "again")]) == 0
    again = load_run(tmp_path / "again")
    assert again.labels == names and list(again.config.data.labels) == names


def test_a_tokenizer_without_what_stands_around_a_text_does_not_pass(
    tmp_path, monkeypatch
):
    model, params = tiny(bert, vocab=PIECES.vocab, depth=1, head="tag")
    verify.huggingface.save_huggingface(tmp_path, params, model.cfg)
    nothing = tokenizer_files.NOTHING
    tokenizer_files.write(tmp_path, PIECES, nothing, longest=12, types=True)
    probes = verify.PROBES[verify.ImportedText]._replace(inputs=lambda loaded: [])
    monkeypatch.setitem(verify.PROBES, verify.ImportedText, probes)
    found = verify.compare(tmp_path)
    assert not verify.passed(found)
    assert {(line.rows, line.output) for line in found} == {
        ("texts", "token ids"),
        ("pairs of texts", "token ids"),
    }


def test_a_translation_run_translates_the_same_text_in_transformers(tmp_path):
    lines = ["one two three", "four five six seven"]
    cfg = bilingual.Config(kind="bpe", vocab=300)
    words = bilingual.train_tokenizer(cfg, lines, lines)
    sizes = dict(source_vocab=words.source_vocab, target_vocab=words.target_vocab)
    model, params = tiny_pairs(
        **sizes, positions="sinusoidal_halves", norm_eps=1e-5, output_bias=True
    )
    run = run_of(
        *(tmp_path / "run", "translation", model, params, words),
        {},
        **dict(source_length=16, target_length=16, normalize="lowercase"),
    )
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "new")]) == 0
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "new")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    asked = ["two Six", "One five"]
    fed = tokenizer(asked, return_tensors="pt", padding=True)
    made = theirs.generate(**fed, num_beams=1, do_sample=False, max_length=9)
    read = tokenizer.batch_decode(made, skip_special_tokens=True)
    ours = run.translate(asked, beam=1)
    for mine, other in zip(ours, read, strict=True):
        assert other and mine.startswith(other[:-1])


def test_texts_that_a_model_cannot_take_are_not_compared(tmp_path):
    model, params = tiny(bert, vocab=PIECES.vocab - 1, depth=1, head="tag")
    verify.huggingface.save_huggingface(tmp_path, params, model.cfg)
    found = verify.huggingface.load_huggingface(tmp_path)
    with pytest.raises(texts.DataError, match="there is no tokenizer in"):
        texts.read(tmp_path, found)
    PIECES.save(tmp_path / "tokenizer.json")
    with pytest.raises(texts.DataError, match="tokenizer has 600 ids, the model 599"):
        texts.read(tmp_path, found)


@pytest.mark.parametrize(
    "given, message",
    [
        (["a"], "id2label is a list"),
        ({"0": "a", "2": "b"}, "a name for each of 0, 1, 2"),
        ({"0": "a", "1": 3}, "a name for each of 0, 1, 2"),
        ({"0": "a", "1": "a"}, "a name twice"),
    ],
)
def test_names_that_are_none_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        label_names.read({"id2label": given})


def test_names_are_written_and_read_and_counts_are_no_names():
    assert label_names.read(label_names.write(["b", "a"])) == ("b", "a")
    assert label_names.read(label_names.write(label_names.unnamed(3))) == ()
    assert label_names.count(label_names.write(label_names.unnamed(3))) == 3
    assert label_names.count({}) == 2  # transformers' default
    config = transformers.BertConfig(**json.loads(json.dumps(label_names.write("xy"))))
    assert config.id2label == {0: "x", 1: "y"}
