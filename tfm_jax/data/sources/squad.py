"""Questions that a span of a text answers, from the JSON of SQuAD."""

import dataclasses
from typing import Any, NamedTuple

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import sift
from tfm_jax.data.sources.text_files import read_bytes
from tfm_jax.knobs import knob


class Question(NamedTuple):
    """A question on a text; without answers it has none there."""

    name: str
    question: str
    context: str
    answers: tuple[str, ...]  # ``context`` has them at ``starts``
    starts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Config:
    """Where questions come from."""

    ROLE = "training"

    train_files: tuple[str, ...] = knob((), "JSON as SQuAD's")
    valid_files: tuple[str, ...] = knob((), "of the validation split; () is absent")
    test_files: tuple[str, ...] = knob((), "of the test split; () is absent")
    misplaced: str = knob(
        "error",
        "what an answer gets that the text does not have at its place",
        choices=("error", "drop"),
    )


def load_questions(cfg: Any, split: str, names: Any = None) -> tuple:
    """The questions of one split: (list of `Question`, report), none if not configured.

    Source: the JSON of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018).
    Raises: DataError if a file is missing, damaged or built otherwise, or, with
        misplaced="error", if an answer is not where it should be.
    """
    del names  # there are no labels
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name files built as SQuAD's")
    questions, files = [], {}
    for path in getattr(cfg, f"{split}_files"):
        kept, files[str(path)] = _read(cfg, path, f"data.{split}_files")
        questions += kept
    return questions, {"files": files}


def _read(cfg, path, knob):
    try:
        document = bounded_json.loads(read_bytes(path, knob).decode("utf-8-sig"))
        questions = [
            _question(item, paragraph["context"])
            for article in document["data"]
            for paragraph in article["paragraphs"]
            for item in paragraph["qas"]
        ]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is not built as SQuAD's files: {error!r}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error

    def clause(_, number):
        return (
            f"{path}: question {questions[number].name!r} has an answer that its text "
            f"does not have there"
        )

    wrong = {"misplaced": [not _in_place(question) for question in questions]}
    keep, report = sift(cfg, wrong, "question", clause=clause)
    kept = [question for question, stays in zip(questions, keep, strict=True) if stays]
    return kept, {
        "read": len(questions),
        "misplaced": report["misplaced"]["questions"],
        "unanswerable": sum(not question.answers for question in kept),
    }


def _question(item, context):
    answers = [] if item.get("is_impossible") else item.get("answers", [])
    return Question(
        str(item["id"]),
        item["question"].strip(),
        context,
        tuple(answer["text"] for answer in answers),
        tuple(int(answer["answer_start"]) for answer in answers),
    )


def _in_place(question):
    return all(
        answer and start >= 0 and question.context[start:].startswith(answer)
        for answer, start in zip(question.answers, question.starts, strict=True)
    )
