"""Every task on text, from files to scores, through the one loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.layers.weights import randomised
from tests.reliability import tiny
from tests.workloads.text_runs import get_config, write_files
from tfm_jax import api, bounded_json
from tfm_jax.config import ConfigError
from tfm_jax.data.batches import train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.notebook import load_run
from tfm_jax.objectives import classify, masked_lm, replaced_tokens, restored_words
from tfm_jax.settings import variants
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop
from tfm_jax.train.program import build

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    return folder


# (task, model, head, sections' changes) -> what must hold of the validation scores, as
# it did for each of six seeds; initial values of 0.02 learn some of it by chance only
LEARNT = {
    "masked_lm": (
        ("masked_lm", "bert", "masked_lm", {}),
        lambda s: s["nll"] < 1.2 and s["accuracy"] > 0.6,
    ),
    "sop": (
        (
            "masked_lm", "albert", "pretraining",
            dict(
                data=dict(pairs=dict(kind="sop"), train_files=("days.txt",)),
                init="glorot", train=dict(total_steps=120),
            ),
        ),
        lambda s: s["pair_accuracy"] == 1.0 and s["nll"] < 1.5,  # dawn comes first
    ),
    "replaced_tokens": (
        (
            "replaced_tokens", "electra", "pretraining",
            dict(train=dict(auxiliary_weight=50.0), dropout=0.1),
        ),
        lambda s: s["judged_accuracy"] > 1 - s["replaced"] and s["recall"] > 0,
    ),
    "all_tokens_mlm": (
        (
            "all_tokens_mlm", "electra", "all_tokens_mlm",
            dict(init="glorot", train=dict(auxiliary_weight=7.0, total_steps=160)),
        ),
        # 0.5: copying nine words of ten, without a look at the others
        lambda s: s["accuracy"] > 0.6 and s["restored_nll"] < 0.4,
    ),
    "classify": (
        ("classify", "bert", "classify", dict(labels=4, init="glorot")),
        lambda s: s["accuracy"] == 1.0 and s["examples"] == 64,
    ),
    "classify_gpt": (
        ("classify", "gpt", "classify", dict(labels=4, data=dict(frame="gpt1"))),
        lambda s: s["accuracy"] == s["f1"] == s["matthews"] == 1.0,
    ),
    "numbers": (
        ("classify", "electra", "classify", dict(labels=1, data=dict(scores=True))),
        lambda s: s["pearson"] > 0.9 and s["nll"] < 0.5,
    ),
    "tag": (
        ("tag", "bert", "tag", {}),
        lambda s: s["accuracy"] == s["f1"] == 1.0 and s["tokens"] == 4 * 64,
    ),
    "span": (
        ("span", "bert", "span", dict(train=dict(total_steps=120))),
        lambda s: s["exact"] == s["exact_match"] == s["f1"] == 1.0 and s["rows"] == 32,
    ),
}  # fmt: skip


# the same -> what the run answers in a notebook
ANSWERS = {
    "masked_lm": (
        lambda run: run.fill_mask(["the dog says [MASK]."], top=1).filled.tolist(),
        ["the dog says woof."],
    ),
    "classify": (lambda run: _best(run.classify(COW)), ["2"]),
    "classify_gpt": (lambda run: _best(run.classify(COW)), ["2"]),
    "tag": (lambda run: run.tag(COW).tag.tolist(), ["O", "A", "O", "O"]),
    "span": (lambda run: run.answer([("who", *COW)]).answer.tolist(), ["cow"]),
    "replaced_tokens": (
        lambda run: run.detect_replaced(COW).token.tolist(),
        ["the", "cow", "says", "moo", "."],
    ),
    "numbers": (lambda run: run.classify(COW).columns.tolist(), ["score"]),
}
COW = ["the cow says moo."]


def _best(table):
    return table.idxmax(axis=1).tolist()


@pytest.mark.parametrize("name", LEARNT)
def test_what_can_be_known_is_learnt(name, files, tmp_path):
    (*names, changes), holds = LEARNT[name]
    config = get_config(*names, files, **changes)
    results = loop.train(config, tmp_path)
    assert holds(results["valid"]), results
    experiment = resolve(config)
    assert api.score_names(experiment) == [f"valid/{k}" for k in results["valid"]]
    if name in ANSWERS:
        ask, wanted = ANSWERS[name]
        run = load_run(tmp_path)
        assert ask(run) == wanted
        if config.data.valid_files:
            scores_again_without_training_files(run, results["valid"])


def scores_again_without_training_files(run, scores):
    (file,) = run.config.data.valid_files
    gone = dict(train_files=("gone",), valid_files=("gone too",))
    data = dataclasses.replace(run.config.data, **gone)
    moved = run._replace(experiment=run.config._replace(data=data))
    again = moved.evaluate(file)
    assert again.pop("split") == file and again.keys() == scores.keys()
    for name, score in scores.items():
        np.testing.assert_allclose(again[name], score, rtol=1e-4, err_msg=name)
    with pytest.raises(DataError, match="gone too"):
        moved.evaluate()


def objective(experiment, batch):
    """Loss of one update, and its gradient."""
    functions = build(experiment)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), functions.shapes())
    state = state._replace(params=randomised(state.params))
    loss, _, grads = jax.jit(functions.gradients)(state, batch)
    return loss, grads


@pytest.mark.parametrize(
    "task, model, head, data",
    [
        ("masked_lm", "bert", "pretraining", dict(pairs=dict(kind="nsp"))),
        ("classify", "gpt", "classify", dict(frame="gpt1")),
    ],
)
def test_micro_batches_share_one_objective(task, model, head, data, files):
    """Each loss is divided by its own weight over the whole batch, never by parts'."""
    changes = dict(data=data, train=dict(auxiliary_weight=0.7))
    if task == "classify":
        changes["labels"] = 4
    experiment = resolve(get_config(task, model, head, files, **changes))
    prepared = experiment.workload.prepare(experiment)
    experiment = experiment.complete(prepared.tokenizer)
    batch = next(
        train_batches(
            experiment.data, prepared, batch_tokens=384, total_batches=1, seed=0
        )
    )
    rows = len(batch.tokens) // 2 * 2
    batch = jax.tree.map(lambda x: x[:rows], batch)
    if task == "masked_lm":  # halves of unlike weight
        batch.weights[: rows // 2, 1:] = 0.0
    whole = jax.tree.map(lambda x: x[None], batch)
    halves = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
    loss, grads = objective(experiment, whole)
    of_halves, their_grads = objective(experiment, halves)
    np.testing.assert_allclose(loss, of_halves, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (grads, their_grads)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_masks_and_samples_are_drawn_again_after_a_stop(files, tmp_path):
    """A run that was stopped goes on bit for bit, dropout included."""
    names = "replaced_tokens", "electra", "pretraining"
    few = dict(total_steps=9, auxiliary_weight=50.0)
    config = get_config(*names, files, train=few, dropout=0.1)
    assert tiny.run(tmp_path / "whole", config)
    assert not tiny.run(tmp_path / "cut", config, stop=(4,))
    assert tiny.run(tmp_path / "cut", config)
    assert tiny.digests(tmp_path / "cut") == tiny.digests(tmp_path / "whole")


def test_the_second_loss_is_weighed():
    """``train.auxiliary_weight``: the loss of an update is linear in it."""
    batch = masked_lm.example()
    ones = dict(lm_logits=np.ones((1, 1, 5)), pair=np.ones((1, 2)))
    given = type("Logits", (), ones)
    how = dict(train=True, auxiliary_scale=1.0)
    sums = functools.partial(masked_lm.loss_sum, lambda *_, **__: given, {}, batch)
    loss = jax.jit(lambda weight: sums(auxiliary=weight, **how)[0])
    losses = [*map(loss, (0.0, 1.0, 3.0))]
    np.testing.assert_allclose(losses, np.log(5) + np.log(2) * np.array([0, 1, 3]))


def test_the_losses_are_the_means_that_the_papers_add():
    """Against the sums written out, for outputs that are given."""
    rng = np.random.default_rng(0)
    batch = masked_lm.example()._replace(
        segments=np.ones((1, 2), np.int32), pair_labels=np.array([1], np.int32)
    )
    words, pair = rng.normal(size=(1, 1, 5)), rng.normal(size=(1, 2))
    given = type("Logits", (), dict(lm_logits=jnp.array(words), pair=jnp.array(pair)))
    log = jax.nn.log_softmax
    loss, weight = masked_lm.loss_sum(
        lambda *_, **__: given, {}, batch, train=True, auxiliary=0.3,
        auxiliary_scale=masked_lm.auxiliary_scale(batch),
    )  # fmt: skip
    expected = -log(words)[0, 0, 1] - 0.3 * log(pair)[0, 1]
    np.testing.assert_allclose(loss / weight, expected, rtol=1e-6)

    scores = jnp.array([[0.4, -1.1]])
    given = type(
        "Sampled", (),
        dict(lm_logits=jnp.array(words), scores=scores, replaced=scores > 0),
    )  # fmt: skip
    chance = jax.nn.sigmoid(scores)
    judged = -np.log([chance[0, 0], 1 - chance[0, 1]])  # the first was replaced
    expected = {
        replaced_tokens.ALL: judged.mean(),
        replaced_tokens.ASKED: judged[1],  # the only place
    }
    for objective, of_tokens in expected.items():
        scale = objective.auxiliary_scale(jax.tree.map(lambda x: x[None], batch))
        loss, weight = objective.loss_sum(
            lambda *_, **__: given, {}, batch, train=True, auxiliary_scale=scale
        )
        np.testing.assert_allclose(
            loss / weight, -log(words)[0, 0, 1] + 50 * of_tokens, rtol=1e-6
        )


def test_words_are_restored_by_the_softmax_or_kept():
    """Against the probabilities written out, for outputs that are given."""
    rng = np.random.default_rng(2)
    batch = masked_lm.example()._replace(segments=np.ones((1, 2), np.int32))
    words, restored = rng.normal(size=(1, 1, 5)), rng.normal(size=(1, 2, 5))
    of_generator = -jax.nn.log_softmax(words)[0, 0, 1]
    softmax = np.array(jax.nn.softmax(restored))
    copy = jnp.array([[0.4, -1.1]])
    given = dict(
        lm_logits=jnp.array(words), restored=jnp.array(restored), copy=copy,
        original=jnp.array([[3, 1]]), same=jnp.array([[True, False]]),
    )  # fmt: skip
    c = np.array(jax.nn.sigmoid(copy))[0]
    kept = np.log(c[0] + (1 - c[0]) * softmax[0, 0, 3])
    drawn = np.log((1 - c[1]) * softmax[0, 1, 1])
    asked = given | dict(
        restored=given["restored"][:, 1:], original=batch.labels, copy=None
    )
    for objective, outputs, of_tokens in (
        (restored_words.ALL, given, -(kept + drawn) / 2),
        (restored_words.ASKED, asked, -np.log(softmax[0, 1, 1])),
    ):
        out = type("Restored", (), outputs)
        scale = objective.auxiliary_scale(jax.tree.map(lambda x: x[None], batch))
        loss, weight = objective.loss_sum(
            lambda *_, out=out, **__: out, {}, batch, train=True, auxiliary=2.0,
            auxiliary_scale=scale,
        )  # fmt: skip
        np.testing.assert_allclose(
            loss / weight, of_generator + 2 * of_tokens, rtol=1e-6
        )
        sums = objective.eval_sums(lambda *_, out=out, **__: out, {}, batch)
        np.testing.assert_allclose(
            objective.scores(sums, {})["restored_nll"], of_tokens, rtol=1e-6
        )


def test_scores_of_classes_and_numbers_agree_with_their_definitions():
    from scipy import stats

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40).astype(np.int32)
    logits = rng.normal(size=(40, 2))

    @jax.jit
    def sums(logits, batch):
        return classify.eval_sums(lambda *_, **__: logits, {}, batch)

    batch = classify.example()._replace(
        labels=labels, weights=np.ones(40, np.float32), tokens=None
    )
    found = classify.scores(sums(logits, batch), {})
    said = logits.argmax(-1)
    hits = ((said == 1) & (labels == 1)).sum()
    f1 = 2 * hits / ((said == 1).sum() + (labels == 1).sum())
    np.testing.assert_allclose(found["accuracy"], (said == labels).mean())
    np.testing.assert_allclose(found["f1"], f1, rtol=1e-6)
    phi = np.corrcoef(said, labels)[0, 1]  # for two classes they are the same
    np.testing.assert_allclose(found["matthews"], phi, rtol=1e-5)
    numbers = rng.normal(size=40).astype(np.float32)
    batch = batch._replace(labels=numbers)
    found = classify.scores(sums(logits, batch), {})
    expected = stats.pearsonr(numbers, logits[:, 0]).statistic
    np.testing.assert_allclose(found["pearson"], expected, rtol=1e-4)


def test_the_validation_text_is_read_in_other_ways_too(files, tmp_path):
    """``eval.variants``; words that were not masked are easily told."""
    config = get_config("masked_lm", "bert", "masked_lm", files)
    config.eval.variants = (
        "masked:masking.mask=1;masking.random=0",
        "seen:masking.mask=0;masking.random=0",
        "again:masking.most=5",
    )
    results = loop.train(config, tmp_path)
    assert results["seen"]["nll"] < results["masked"]["nll"]
    assert results["again"] == results["valid"]
    written = bounded_json.read(tmp_path / "results.json", dict)
    assert results == bounded_json.unsealed(written)


@pytest.mark.parametrize(
    "entry, message",
    [
        ("valid:length=9", "'valid' is no new name"),
        ("memory_bytes:length=9", "'memory_bytes' is no new name"),
        ("a:pairs.sort=sop", "data.pairs.sort: there is no such knob"),
        ("a:pairs=sop", "data.pairs: there is no such knob"),
        ("a:length=x", "data.length=x; expected integer"),
        ("a:length=9;length=8", "data.length is given twice"),
        ("a:length.most=3", "data.length.most: there is no such knob"),
        ("a:pairs.kind=son", r"data.pairs.kind='son'; choose from \(nsp, sop, none"),
        *((entry, "write NAME:KNOB=VALUE") for entry in ("a", "a:")),
    ],
)
def test_variants_that_are_none_are_refused(entry, message, files):
    data = resolve(get_config("masked_lm", "bert", "masked_lm", files)).data
    with pytest.raises(ConfigError, match=f"eval.variants='{entry}': {message}"):
        variants.read((entry,), data)


@pytest.mark.parametrize(
    "entry, message",
    [
        ("a:pairs.kind=sop", "eval.variants, 'a': model.head='masked_lm' does not fit"),
        ("a:length=99", "eval.variants, 'a': model.max_length=48 is below the 99"),
    ],
)
def test_variants_that_the_model_cannot_read_are_refused(entry, message, files):
    """Before the first step, not after the last."""
    config = get_config("masked_lm", "bert", "masked_lm", files, positions="learned")
    config.eval.variants = (entry,)
    with pytest.raises(ConfigError, match=message):
        resolve(config)


def test_a_model_for_other_labels_than_the_data_has_is_refused(files):
    """A label beyond the last logit would be taken for the last."""
    experiment = resolve(get_config("classify", "bert", "classify", files, labels=3))
    with pytest.raises(ConfigError, match="model.labels=3, .* has 4: 0, 1, 2, 3"):
        experiment.workload.prepare(experiment)
    numbers = get_config("classify", "bert", "classify", files, data=dict(scores=True))
    with pytest.raises(ConfigError, match="model.labels=2, .* need 1"):
        experiment.workload.prepare(resolve(numbers))


@pytest.mark.parametrize(
    "names, changes, message",
    [
        (("masked_lm", "bert", "pretraining"), {}, "needs model.head='masked_lm'"),
        (
            ("masked_lm", "bert", "masked_lm"),
            dict(data=dict(pairs=dict(kind="nsp"))),
            "needs model.head='pretraining'",
        ),
        (("classify", "bert", "tag"), {}, r"model.head='tag' cannot learn"),
        (("span", "bert", "span"), dict(types=1), "model.types=1 cannot tell the 2"),
        (
            ("masked_lm", "albert", "pretraining"),
            dict(types=1, data=dict(pairs=dict(kind="sop"))),
            "model.types=1 cannot tell the 2",
        ),
        (
            ("classify", "bert", "classify"),
            dict(types=1, data=dict(second_column="2")),
            "model.types=1 cannot tell the 2",
        ),
        (
            ("tag", "bert", "tag"),
            dict(train=dict(auxiliary_weight=2.0)),
            "auxiliary_weight=2.0 has no effect",
        ),
    ],
)
def test_sections_that_do_not_fit_are_refused(names, changes, message, files):
    with pytest.raises(ConfigError, match=message):
        resolve(get_config(*names, files, **changes))
