import json

import numpy as np
import pytest

from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.spans import Config, span_rows, span_text
from tfm_jax.data.sources.squad import Question, load_questions

TOKENIZER = tokenizer("wordpiece")
CONTEXT = "The naïve dog (a Spaniel) barked at\u2028 Ångström in 1867."
CFG = Config(length=24, question_length=6, stride=8)


def question(answer, context=CONTEXT, name="q"):
    answers = () if answer is None else (answer,)
    starts = tuple(context.index(answer) for answer in answers)
    return Question(name, "Who barked there?", context, answers, starts)


def squad(path, *items, context=CONTEXT):
    paragraph = {"context": context, "qas": list(items)}
    document = {"version": "2.0", "data": [{"paragraphs": [paragraph]}]}
    path.write_text(json.dumps(document))
    return path


def read(path, **settings):
    """(questions, report of the file)."""
    questions, report = load_questions(
        Config(train_files=(str(path),), **settings), "train"
    )
    return questions, report["files"][str(path)]


def item(name, *answers, **more):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": " Who? ", "answers": answers, **more}


def test_questions_of_both_versions_are_read(tmp_path):
    place = CONTEXT.index("dog")
    path = squad(
        tmp_path / "a.json",
        item("one", ("dog", place), ("naïve dog", place - 6)),
        item("two", is_impossible=True, plausible_answers=[]),
    )
    found, report = read(path)
    assert found[0] == Question(
        "one", "Who?", CONTEXT, ("dog", "naïve dog"), (place, place - 6)
    )
    assert found[1].answers == ()
    assert report == {"read": 2, "misplaced": 0, "unanswerable": 1}


@pytest.mark.parametrize("place", [-1, 0, 10_000])
def test_an_answer_that_is_not_there_is_an_error_or_left_out(tmp_path, place):
    path = squad(tmp_path / "a.json", item("bad", ("dog", place)), item("good"))
    with pytest.raises(DataError, match="question 'bad' .* 1 in all; .*misplaced=drop"):
        read(path)
    found, report = read(path, misplaced="drop")
    assert [one.name for one in found] == ["good"] and report["misplaced"] == 1


@pytest.mark.parametrize(
    "text, message",
    [("{", "is not JSON"), ("[]", "not built as SQuAD"), ('{"data": 3}', "not built")],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.json")


@pytest.mark.parametrize(
    "answer",
    ["The", "naïve dog", "a Spaniel", "Ångström", "1867", "1867.", CONTEXT[:9]],
)
def test_the_labelled_span_reads_as_the_answer(answer):
    questions = [question(answer)]
    spans, report = span_rows(TOKENIZER, questions, CFG)
    assert report["answer_in_no_window"] == 0
    found = [
        span_text(spans, questions, row, *label)
        for row, label in enumerate(spans.rows.labels)
        if label[0]
    ]
    assert found and set(found) == {answer}


def test_an_answer_inside_a_token_is_the_whole_token():
    context = "the dogs"
    questions = [Question("q", "who", context, ("he",), (1,))]
    spans, _ = span_rows(TOKENIZER, questions, CFG)
    ((first, last),) = spans.rows.labels
    assert answer_contains(span_text(spans, questions, 0, first, last), "he")


def answer_contains(text, part):
    return part in text and " " not in text


def test_windows_hold_every_token_and_step_by_the_stride():
    context = corpus()[0][:600]
    questions = [question(None, context)]
    spans, report = span_rows(TOKENIZER, questions, CFG)
    (ids,) = TOKENIZER.encode([context])
    (asked,) = TOKENIZER.encode(["Who barked there?"])
    offset = min(len(asked), 6) + 2
    room = 24 - offset - 1
    assert report["rows"] == 1 + -(-(len(ids) - room) // 8)
    for row in range(report["rows"]):
        window = ids[8 * row : 8 * row + room]
        tokens = spans.rows.tokens[row, offset : offset + len(window)]
        np.testing.assert_array_equal(tokens, window)
        assert spans.rows.types[row, offset : offset + len(window)].all()
    assert not spans.rows.labels.any() and (spans.rows.weights == 1).all()
    assert (spans.questions == 0).all()


def test_outside_of_the_text_there_is_nothing_to_read():
    questions = [question("dog")]
    spans, _ = span_rows(TOKENIZER, questions, CFG)
    assert span_text(spans, questions, 0, 0, 0) == ""
    first, last = spans.rows.labels[0]
    assert span_text(spans, questions, 0, last + 1, first) == ""


def test_wrong_settings_name_the_knob():
    with pytest.raises(ValueError, match=r"data\.length=24 .*stride=16"):
        Config(length=24, question_length=6, stride=16)
    with pytest.raises(ValueError, match=r"data\.stride=0 must be positive"):
        Config(stride=0)
    with pytest.raises(DataError, match="there are no questions"):
        span_rows(TOKENIZER, [], CFG)


START = """{"data": [{"paragraphs": [{"context": "abc", "qas": [{"id": "1",
"question": "q", "answers": [{"text": "abc", "answer_start": 1e999}]}]}]}]}"""


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 20_000, START])
def test_crafted_files_of_questions_are_refused_in_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="is not"):
        read(tmp_path / "x.json")
