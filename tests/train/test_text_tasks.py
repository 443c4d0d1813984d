"""Every task on text, from files to scores, through the one loop."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tfm_jax.config import ConfigError, section
from tfm_jax.data import language
from tfm_jax.models import MODELS
from tfm_jax.tasks import classify, masked_lm, replaced_tokens
from tfm_jax.train import checkpoint, loop, mesh, optim
from tfm_jax.train.experiment import TASKS, complete, resolve
from tfm_jax.train.language import prepare
from tfm_jax.train.program import build
from tfm_jax.train.sections import EvalConfig, TrainConfig

ANIMALS = ("cat", "dog", "cow", "hen")
SOUNDS = ("meow", "woof", "moo", "cluck")
OFF = dict(dropout=0.0, attention_dropout=0.0)
TINY = dict(width=32, heads=2, ffn_width=64, depth=1, max_length=48, **OFF)
EXTRA = {
    "bert": {},
    "albert": dict(embedding_width=16),
    "electra": dict(
        embedding_width=32, generator_width=16, generator_heads=2,
        generator_ffn_width=32, generator_depth=1,
    ),
    "gpt": dict(embedding_dropout=0.0, head_dropout=0.0),
}  # fmt: skip
SPECIAL = ("_start_", "_delimiter_", "_classify_")


def sentences(count):
    """Each animal makes its sound: a masked word can be known."""
    animals = itertools.islice(itertools.cycle(range(4)), count)
    return [f"the {ANIMALS[n]} says {SOUNDS[n]}." for n in animals]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with a file for each kind of data."""
    folder = tmp_path_factory.mktemp("data")
    text = "\n\n".join("\n".join(sentences(8)) for _ in range(40))
    (folder / "text.txt").write_text(text)
    rows = [f"{line}\t{n % 4}" for n, line in enumerate(sentences(64))]
    (folder / "classes.tsv").write_text("\n".join(rows))
    words = [
        "\n".join(f"{w} {'A' if w in ANIMALS else 'O'}" for w in line[:-1].split())
        for line in sentences(64)
    ]
    (folder / "tags.txt").write_text("\n\n".join(words))
    questions = [
        {
            "id": str(n),
            "question": "who",
            "answers": [{"text": ANIMALS[n % 4], "answer_start": 4}],
        }
        for n in range(32)
    ]
    paragraphs = [
        {"context": line, "qas": [question]}
        for line, question in zip(sentences(32), questions, strict=True)
    ]
    squad = {"data": [{"paragraphs": paragraphs}]}
    (folder / "spans.json").write_text(json.dumps(squad))
    return folder


def data_of(task, files, **changes):
    """The data section of a task."""
    running = dict(source="files", train_files=(str(files / "text.txt"),))

    def both(name):
        return dict.fromkeys(("train_files", "valid_files"), (str(files / name),))

    given = {
        "causal_lm": dict(running, length=24),
        "masked_lm": dict(
            running, length=24, document="blank_line", sentences="line",
            masking=dict(most=5), pairs=dict(kind="none"),
        ),
        "classify": dict(both("classes.tsv"), length=12),
        "tag": dict(both("tags.txt"), length=12),
        "span": dict(both("spans.json"), length=24, question_length=4, stride=8),
    }  # fmt: skip
    given["replaced_tokens"] = given["masked_lm"]
    return section(TASKS[task].data.Config, **given[task] | changes)


def get_config(task, model, head, files, *, data=None, train=None, **sizes):
    c = ConfigDict(dict(seed=0, model_name=model, task=task))
    sizes = TINY | EXTRA[model] | dict(head=head) | sizes
    c.model = section(MODELS[model].Config, **sizes)
    c.data = data_of(task, files, **(data or {}))
    special = SPECIAL if (data or {}).get("frame") == "gpt1" else ()
    c.tokenizer = section(
        language.TokenizerConfig, kind="wordpiece", vocab=90, special=special
    )
    c.optim = section(optim.Config, peak_lr=1e-2, warmup_steps=10)
    c.train = section(
        TrainConfig,
        **dict(total_steps=80, batch_tokens=384, label_smoothing=0.0) | (train or {}),
    )
    c.eval = section(EvalConfig, every_steps=1_000, batch_tokens=384)
    c.checkpoint = section(checkpoint.Config, every_steps=1_000, metric="nll")
    c.mesh = section(mesh.Config, data=1, cpu_devices=1)
    return c


# (task, model, head, sections' changes) -> what must hold of the validation scores
LEARNT = {
    "masked_lm": (
        ("masked_lm", "bert", "masked_lm", {}),
        lambda s: s["nll"] < 1.2 and s["accuracy"] > 0.6,
    ),
    "sop": (
        ("masked_lm", "albert", "pretraining", dict(data=dict(pairs=dict(kind="sop")))),
        lambda s: 0.0 <= s["pair_accuracy"] <= 1.0 and s["nll"] < 1.5,
    ),
    "replaced_tokens": (
        (
            "replaced_tokens", "electra", "pretraining",
            dict(train=dict(auxiliary_weight=50.0)),
        ),
        lambda s: s["judged_accuracy"] > 1 - s["replaced"] and s["recall"] > 0,
    ),
    "classify": (
        ("classify", "bert", "classify", dict(labels=4)),
        lambda s: s["accuracy"] == 1.0 and s["examples"] == 64,
    ),
    "classify_gpt": (
        ("classify", "gpt", "classify", dict(labels=4, data=dict(frame="gpt1"))),
        lambda s: s["accuracy"] == s["f1"] == s["matthews"] == 1.0,
    ),
    "numbers": (
        (
            "classify", "electra", "classify",
            dict(labels=1, data=dict(scores=True)),
        ),
        lambda s: s["pearson"] > 0.9 and s["nll"] < 0.5,
    ),
    "tag": (
        ("tag", "bert", "tag", {}),
        lambda s: s["accuracy"] == 1.0 and s["tokens"] == 4 * 64,
    ),
    "span": (
        ("span", "bert", "span", dict(train=dict(total_steps=120))),
        lambda s: s["exact"] == s["accuracy"] == 1.0 and s["rows"] == 32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNT)
def test_what_can_be_known_is_learnt(name, files, tmp_path):
    (*names, changes), holds = LEARNT[name]
    config = get_config(*names, files, **changes)
    scores = loop.train(config, tmp_path)["valid"]
    assert holds(scores), scores


def objective(experiment, batch):
    """Loss of one update, and its gradient."""
    functions = build(experiment)
    state = jax.jit(functions.init)(0)
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
    prepared = prepare(experiment)
    experiment = complete(experiment, prepared.tokenizer)
    batch = next(
        language.train_batches(
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


def test_the_losses_are_the_means_that_the_papers_add():
    """Against the sums written out, for outputs that are given."""
    rng = np.random.default_rng(0)
    batch = masked_lm.example()._replace(
        segments=np.ones((1, 2), np.int32), pair_labels=np.array([1], np.int32)
    )
    words, pair = rng.normal(size=(1, 1, 5)), rng.normal(size=(1, 2))
    given = type("Logits", (), dict(words=jnp.array(words), pair=jnp.array(pair)))
    log = jax.nn.log_softmax
    loss, weight = masked_lm.loss_sum(
        lambda *_, **__: given, {}, batch, train=True, auxiliary=0.3,
        balance=masked_lm.balance(batch),
    )  # fmt: skip
    expected = -log(words)[0, 0, 1] - 0.3 * log(pair)[0, 1]
    np.testing.assert_allclose(loss / weight, expected, rtol=1e-6)

    scores = jnp.array([[0.4, -1.1]])
    given = type(
        "Sampled", (),
        dict(words=jnp.array(words), scores=scores, replaced=scores > 0),
    )  # fmt: skip
    loss, weight = replaced_tokens.loss_sum(
        lambda *_, **__: given, {}, batch, train=True,
        balance=replaced_tokens.balance(batch),
    )  # fmt: skip
    chance = jax.nn.sigmoid(scores)
    judged = -(np.log(chance[0, 0]) + np.log(1 - chance[0, 1])) / 2
    np.testing.assert_allclose(
        loss / weight, -log(words)[0, 0, 1] + 50 * judged, rtol=1e-6
    )


def test_scores_of_classes_and_numbers_agree_with_their_definitions():
    from scipy import stats

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40).astype(np.int32)
    logits = rng.normal(size=(40, 2))
    batch = classify.example()._replace(
        labels=labels, weights=np.ones(40, np.float32), tokens=None
    )
    sums = classify.eval_sums(lambda *_, **__: jnp.array(logits), {}, batch)
    found = classify.scores(sums, {})
    said = logits.argmax(-1)
    hits = ((said == 1) & (labels == 1)).sum()
    f1 = 2 * hits / ((said == 1).sum() + (labels == 1).sum())
    np.testing.assert_allclose(found["accuracy"], (said == labels).mean())
    np.testing.assert_allclose(found["f1"], f1, rtol=1e-6)
    phi = np.corrcoef(said, labels)[0, 1]  # for two classes they are the same
    np.testing.assert_allclose(found["matthews"], phi, rtol=1e-5)

    numbers = rng.normal(size=40).astype(np.float32)
    batch = batch._replace(labels=numbers)
    sums = classify.eval_sums(lambda *_, **__: jnp.array(logits), {}, batch)
    expected = stats.pearsonr(numbers, logits[:, 0]).statistic
    np.testing.assert_allclose(
        classify.scores(sums, {})["pearson"], expected, rtol=1e-4
    )


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
