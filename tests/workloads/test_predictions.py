"""Samples and whole answers of models on held-out text."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from tests.layers.weights import randomised
from tests.workloads.text_runs import get_config, write_files
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.layers.layout import init_params, to_scanned, to_unrolled
from tfm_jax.mesh import Config, make_mesh
from tfm_jax.metrics.answers import answer_scores
from tfm_jax.settings.experiment import Experiment, resolve
from tfm_jax.workloads.span import find_answers


class Asked(NamedTuple):
    experiment: Experiment
    params: dict
    data: object

    def evaluator(self):
        """Of the run, whose loss is known."""
        mesh = make_mesh(Config(data=8))
        made = self.experiment.workload.make_evaluator(self.experiment, self.data, mesh)
        made.totals = lambda *_, **__: {}
        made.scores = lambda *_: {}.fromkeys(["nll"])
        return made

    def samples(self):
        """Of the validation text."""
        with jax.set_mesh(make_mesh(Config(data=8))):
            return self.evaluator().during(self.params)[1]

    def scores(self):
        """Of whole answers to the validation text."""
        found = dict(self.evaluator().final(self.params, "valid").scores)
        del found["nll"]
        return found

    def alone(self):
        """(model, parameters), unrolled."""
        model = self.experiment.build_model(layout="unrolled")
        return model, to_unrolled(self.params)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    return folder


def asked(task, model, head, files, **sizes):
    """A model with random weights, and the data of its task."""
    config = get_config(task, model, head, files, **sizes)
    if task == "causal_lm":
        config.data.valid_share = 0.2
    experiment = resolve(config)
    data = experiment.workload.prepare(experiment)
    experiment = experiment.complete(data.tokenizer)
    module = experiment.build_model(layout="unrolled")
    batch = experiment.workload.objective.example()
    shapes = jax.eval_shape(lambda: init_params(module, jax.random.key(0), batch))
    params = randomised(shapes)
    if experiment.model.layout == "scanned":
        params = to_scanned(params)
    return Asked(experiment, params, data)


def test_samples_continue_the_first_rows(files):
    """As generation does, whatever the layout and the devices of the training."""
    found = asked("causal_lm", "gpt", "lm", files, layout="scanned")
    samples = found.samples()
    assert list(samples) == ["0", "1", "2"]
    prompts = [row[:12] for row in found.data.valid[0].tokens[:3]]
    how = Sampling(48 - 12 + 1)
    wanted = generate(*found.alone(), prompts, how).tokens[:, 0]
    for n, (prompt, tokens) in enumerate(zip(prompts, wanted, strict=True)):
        prompt, text = found.data.tokenizer.decode([prompt, tokens])
        assert samples[str(n)] == f"{prompt} -> {text}"
    none = found.experiment._replace(eval=found.experiment.eval.__class__(samples=0))
    assert found._replace(experiment=none).samples() == {}
    assert found.scores() == {}


def test_entities_are_those_of_the_likeliest_tags(files):
    found = asked("tag", "bert", "tag", files)
    scores = found.scores()
    (rows,) = found.data.valid
    model, params = found.alone()
    logits = jax.jit(functools.partial(model.apply, train=False))(
        {"params": params}, rows
    )
    said, there = np.asarray(logits).argmax(-1), rows.labels
    asked_for = rows.weights > 0
    right = ((said == 1) & (there == 1) & asked_for).sum()  # an entity is a word "A"
    said, there = ((x == 1) & asked_for for x in (said, there))
    assert found.data.report["train"]["labels"] == ["O", "A"]
    assert scores["entities"] == there.sum() == 64
    np.testing.assert_allclose(scores["recall"], right / there.sum())
    np.testing.assert_allclose(scores["precision"], right / max(said.sum(), 1))


def test_answers_are_scored_as_texts(files):
    found = asked("span", "bert", "span", files)
    scores = found.scores()
    questions = found.data.examples["valid"]
    answers = find_answers(
        *found.alone(), found.data.tokenizer, questions, found.experiment.data
    )
    for answer, question in zip(answers, questions, strict=True):
        assert question.context[answer.start : answer.end] == answer.text != ""
    accepted = [question.answers for question in questions]
    assert scores == answer_scores([answer.text for answer in answers], accepted)
    assert scores["questions"] == 32 and scores["f1"] < 1


def test_a_question_may_have_no_answer(files, tmp_path):
    """Then the margin over no answer counts."""
    found = asked("span", "bert", "span", files)
    data = found.experiment.data
    text = (files / "spans.json").read_text()
    (tmp_path / "none.json").write_text(
        text.replace('"answers"', '"is_impossible": true, "answers"')
    )
    data = data.__class__(
        **{**vars(data), "valid_files": (str(tmp_path / "none.json"),)}
    )
    experiment = found.experiment._replace(data=data)
    prepared = experiment.workload.prepare(experiment, found.data.tokenizer)
    scores = found._replace(experiment=experiment, data=prepared).scores()
    questions = prepared.examples["valid"]
    answers = find_answers(*found.alone(), found.data.tokenizer, questions, data)
    silent = np.mean([answer.margin < 0 for answer in answers])
    assert scores["exact_match"] == silent
