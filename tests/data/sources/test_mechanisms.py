"""Synthetic tasks: their answers, disjoint splits, and models that learn them."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.config import load as load_config
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows import causal, pairs
from tfm_jax.data.sources.mechanisms.examples import KNOBS, Config, answer, load
from tfm_jax.data.sources.mechanisms.tasks import TASKS, Prompt
from tfm_jax.data.tokenizers import bilingual, vocabularies
from tfm_jax.runs.process import exits
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check_settings
from tfm_jax.workloads.evaluator import scores_of

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "mechanisms.md"
FEW = Config(length=6, symbols=9, queries=3, train=40, valid=20, test=10)
SMALL = {
    "modular_sum": dict(length=2, symbols=40),
    "parity": dict(length=12),
    "selective_copy": dict(fillers=4),
    "recall": dict(fillers=2),
}
# task -> a prompt, and what a person answers
KNOWN = {
    "copy": ("3 1 2 = 3 1 2", {}),
    "reverse": ("3 1 2 = 2 1 3", {}),
    "sort": ("10 9 2 9 = 2 9 9 10", {}),
    "recall": (". k1 v4 . k0 v2 , k0 = v2 , k1 = v4", {}),
    "induction": ("5 3 8 1 , 8 = 1 , 5 = 3", {}),
    "selective_copy": (". 7 . . 1 7 = 7 1 7", {}),
    "count": ("2 1 2 2 , 2 = 3", {}),
    "parity": ("1 0 1 1 = 1", {}),
    "brackets": ("(0 (2 )2 (1 = )1 )0", {}),
    "modular_sum": ("30 25 = 15", dict(symbols=40)),
    "relations": ("4 5 6 7 = 7.6 4.7 5.4 6.5", {}),
}


def few(task, **changes):
    return dataclasses.replace(FEW, task=task, **SMALL.get(task, {}) | changes)


def read(document):
    """(prompt, answers) of a text, by its signs alone."""
    context, queries, answers = [], [], []
    words = document.split()
    first = min(words.index(sign) for sign in ",=" if sign in words)
    context, words = words[:first], words[first:]
    while words:
        end = words.index("=")
        queries.append(words[1:end] if words[0] == "," else [])
        stop = words.index(",", end) if "," in words[end:] else len(words)
        answers.append(words[end + 1 : stop])
        words = words[stop:]
    return Prompt(context, queries), answers


def test_answers_are_those_that_a_person_gives():
    assert KNOWN.keys() == TASKS.keys()
    for task, (document, knobs) in KNOWN.items():
        prompt, answers = read(document)
        cfg = dataclasses.replace(FEW, task=task, length=4, **dict(queries=2) | knobs)
        assert answer(cfg, prompt).answers == answers, task
    joined = dataclasses.replace(FEW, joined=True)
    prompt, answers = read("k1v4 k11v3 k0v2 , k1 = v4 , k11 = v3")
    assert answer(joined, prompt).answers == answers
    worked = dataclasses.replace(FEW, task="parity", worked=True)
    prompt, answers = read("1 0 1 1 = 1 1 0 1")
    assert answer(worked, prompt).answers == answers


def test_the_examples_of_the_guide_are_right():
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", GUIDE.read_text("utf-8"), re.M)
    assert [task for task, _ in rows] == [*TASKS]
    for task, document in rows:
        prompt, answers = read(document)
        symbols = dict(symbols=47) if task == "modular_sum" else {}
        cfg = dataclasses.replace(FEW, task=task, length=2, **symbols)
        assert answer(cfg, prompt).answers == answers, task


@pytest.mark.parametrize("task", TASKS)
def test_an_oracle_that_reads_the_prompt_is_always_right(task):
    """As the models see it: of a document, and of a pair."""
    cfg = few(task)
    for example in load(cfg, "train")[0]:
        prompt, answers = read(example.document)
        assert answer(cfg, prompt).answers == answers == example.answers
        source, target = example.pair
        assert target.split() == [word for words in answers for word in words]
        assert source.split()[: len(prompt.context)] == prompt.context
        assert len(answers) == len({tuple(query) for query in prompt.queries})


@pytest.mark.parametrize("task", TASKS)
def test_no_context_comes_twice_and_none_held_out_depends_on_the_others(task):
    cfg = few(task)
    splits = {split: load(cfg, split)[0] for split in ("train", "valid", "test")}
    assert [len(some) for some in splits.values()] == [40, 20, 10]
    contexts = [(*x.prompt.context,) for some in splits.values() for x in some]
    assert len({*contexts}) == len(contexts)
    more = dataclasses.replace(cfg, train=45)
    assert load(more, "valid")[0] == splits["valid"]
    assert load(more, "train")[0][:40] == splits["train"]
    assert load(cfg, "valid")[0] == splits["valid"]


def test_every_length_comes_and_no_other():
    lengths = [len(x.prompt.context) for x in load(few("copy", shortest=2), "train")[0]]
    assert {*lengths} == {2, 3, 4, 5, 6}
    longer = few("brackets", length=7, shortest=7)
    assert {len(x.prompt.context) for x in load(longer, "valid")[0]} == {7}


def test_a_context_comes_once_in_whatever_order_its_queries_are():
    cfg = Config(length=2, symbols=3, queries=2, train=20, valid=10)
    made = load(cfg, "train")[0] + load(cfg, "valid")[0]
    assert len({(*x.prompt.context,) for x in made}) == 30


def test_no_more_than_half_of_the_contexts_of_a_length_are_held_out():
    """Of the three of one symbol, and the nine of two, and so on."""
    cfg = Config(task="copy", length=5, shortest=1, symbols=3, train=200, valid=100)
    lengths = {
        split: Counter(len(x.prompt.context) for x in load(cfg, split)[0])
        for split in ("train", "valid")
    }
    for length in (1, 2, 3, 4, 5):
        assert 0 < lengths["valid"][length] <= lengths["train"][length]


@pytest.mark.parametrize(
    "changes, expected",
    [
        # all rows that there are
        (dict(task="copy", length=3, symbols=4), 1 / 4),
        (dict(task="parity", length=8), 1 / 2),
        (dict(task="modular_sum", length=2, symbols=5), 1 / 5),
        # the least of two: 0 in 17 of 81; the larger one, too
        (dict(task="sort", length=2, symbols=9), 17 / 81),
        # of a key, or of two that differ, any value is as frequent
        (dict(task="recall", length=1, symbols=5), 1 / 5),
        # a, b: half of them are one twice, half one of each
        (dict(task="count", length=2, symbols=2), 1 / 2),
    ],
)
def test_chance_is_what_the_most_frequent_words_get(changes, expected):
    cfg = Config(**changes, valid=0, train=1)
    with pytest.raises(DataError, match="hardly more than") as most:
        load(dataclasses.replace(cfg, train=100_000), "train")
    there = int(re.search(r"more than (\d+)", str(most.value))[1])
    cfg = dataclasses.replace(cfg, train=there)
    assert load(cfg, "train")[1]["chance"] == round(expected, 3)
    if cfg.task == "copy":  # three words, and an end that is always right
        with_ends = load(cfg, "train", ends=True)[1]["chance"]
        assert with_ends == round((3 / 4 + 1) / 4, 3)


def test_chance_is_of_the_rows_that_a_split_has():
    """Of short contexts there are few, so most of a large split are long."""
    cfg = Config(task="count", length=6, shortest=1, symbols=3, train=900, valid=60)
    counted = {
        split: [x.answers[0][0] for x in load(cfg, split)[0]]
        for split in ("train", "valid")
    }
    ((usual, _),) = Counter(counted["train"]).most_common(1)
    shares = {
        split: words.count(usual) / len(words) for split, words in counted.items()
    }
    for split, share in shares.items():
        assert load(cfg, split)[1]["chance"] == round(share, 3)
    assert shares["train"] != pytest.approx(shares["valid"], abs=0.02)


@pytest.mark.parametrize("layout", ["single", "packed"])
@pytest.mark.parametrize("task", ["recall", "sort"])
@pytest.mark.parametrize("separator", ["", "<end>"])
def test_only_answers_are_asked_for(task, layout, separator):
    mechanism = few(task)
    cfg = causal.Config(
        source="mechanisms",
        mechanism=mechanism,
        layout=layout,
        length=64,
        asked="answers",
        separator=separator,
    )
    special = (separator,) if separator else ()
    tokenizer = vocabularies.Config(kind="word", special=special)
    data = prepare(causal.KIND, cfg, tokenizer)
    ((rows,), examples) = data.valid, load(mechanism, "valid")[0]
    words = [w for one in examples for x in one.answers for w in x]
    labels, weights = rows.labels[:], rows.weights[:]
    asked = data.tokenizer.decode([labels[weights > 0]])[0].split()
    assert sorted(asked) == sorted(words)
    assert data.report["valid"]["chance"] == load(mechanism, "valid")[1]["chance"]


@pytest.mark.parametrize(
    "kind, asked, alike",
    [
        ("word", "answers", True),
        ("word", "all", False),
        ("word", "last", False),
        ("character", "answers", False),
    ],
)
def test_chance_stands_beside_the_accuracy_that_it_is_of(kind, asked, alike):
    """Of letters, or of the whole text, any guess has another accuracy."""
    cfg = causal.Config(
        source="mechanisms", mechanism=few("sort"), layout="single", asked=asked
    )
    assert _says_chance(causal.KIND, cfg, vocabularies.Config(kind=kind)) == alike
    cfg = pairs.Config(source="mechanisms", mechanism=few("sort"))
    alike = kind == "word"
    assert _says_chance(pairs.KIND, cfg, bilingual.Config(kind=kind)) == alike


def test_no_chance_is_said_of_words_that_the_tokenizer_does_not_know():
    """Whoever writes that it does not know them would be right."""
    cfg = pairs.Config(source="mechanisms", mechanism=few("sort"))
    assert not _says_chance(pairs.KIND, cfg, bilingual.Config(kind="word", vocab=8))
    cfg = causal.Config(
        source="mechanisms", mechanism=few("sort"), layout="single", asked="answers"
    )
    tokenizer = vocabularies.Config(kind="word", vocab=10)
    assert not _says_chance(causal.KIND, cfg, tokenizer)


@pytest.mark.parametrize("knob", ["mechanism.seed=1", "mechanism.valid=19"])
def test_a_variant_may_not_hold_out_what_is_trained_on(knob):
    config = load_config("configs/transformer_mechanisms.py:copy")
    config.eval.variants = (f"other:{knob}",)
    with pytest.raises(ConfigError, match=f"data.{knob.split('=')[0]} would hold out"):
        check_settings(resolve(config))


def _says_chance(kind, cfg, tokenizer):
    report = prepare(kind, cfg, tokenizer).report["valid"]
    objective = SimpleNamespace(scores=lambda totals, report: {"accuracy": 0.5})
    return scores_of(objective, None, report).get("chance") == report["chance"]


def test_translations_are_prompts_and_answers():
    cfg = pairs.Config(source="mechanisms", mechanism=few("reverse"))
    data = prepare(pairs.KIND, cfg, bilingual.Config(kind="word"))
    expected = [example.pair for example in load(few("reverse"), "valid")[0]]
    both = data.examples["valid"]
    assert list(zip(both.source, both.target, strict=True)) == expected
    assert data.report["valid"]["unknown_share"] == {"source": 0.0, "target": 0.0}


OTHERS = {  # knob -> another value, with those that bring it to life
    "mechanism.task": dict(task="induction"),
    "mechanism.length": dict(length=7),
    "mechanism.shortest": dict(shortest=2),
    "mechanism.symbols": dict(symbols=8),
    "mechanism.queries": dict(queries=2),
    "mechanism.fillers": dict(fillers=3),
    "mechanism.joined": dict(joined=True),
    "mechanism.worked": dict(worked=True, task="parity", length=12),
    "mechanism.relations": dict(relations=3, task="relations"),
    "mechanism.train": dict(train=39),
    "mechanism.valid": dict(valid=19),
    "mechanism.test": dict(test=9),
    "mechanism.seed": dict(seed=1),
}


def test_every_knob_changes_what_there_is():
    assert OTHERS.keys() == {*KNOBS}
    for knob, other in OTHERS.items():
        name = knob.removeprefix("mechanism.")
        usual = dataclasses.replace(FEW, **other | {name: getattr(FEW, name)})
        changed = dataclasses.replace(FEW, **other)
        split = name if name in ("valid", "test") else "train"
        assert load(usual, split)[0] != load(changed, split)[0], knob


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(task="recall", length=10), "cannot have length=10 distinct ones"),
        (dict(task="induction", length=9), "cannot have length=9 and one more"),
        (dict(shortest=7), "cannot have shortest=7 of length=6"),
        (dict(task="relations", relations=7), "cannot have relations=7 of 6"),
        (dict(symbols=1), "data.mechanism.symbols=1 must be"),
        (dict(train=10**9), "train=1,?000,?000,?000 must be from 1 to 1,000,000"),
    ],
)
def test_wrong_sizes_name_the_knob(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FEW, **changes)


def test_more_prompts_than_there_are_is_said():
    cfg = few("parity", length=4)
    with pytest.raises(DataError, match="hardly more than 16 contexts, of all splits"):
        load(cfg, "train")


def test_answers_need_a_mark_that_is_a_token():
    cfg = causal.Config(source="pydocs", layout="single", asked="answers")
    with pytest.raises(DataError, match="needs '=' as a token"):
        prepare(causal.KIND, cfg, vocabularies.Config(kind="word", vocab=5))
    for layout in ("joined", "cut"):  # the rest of a document has lost its context
        with pytest.raises(
            ValueError, match=r"keep documents whole; .*\(packed, single"
        ):
            dataclasses.replace(cfg, layout=layout)


def test_answers_without_their_context_are_refused():
    mechanism, tokenizer = few("sort"), vocabularies.Config(kind="word")
    cfg = causal.Config(
        source="mechanisms", mechanism=mechanism, layout="packed", asked="answers"
    )
    prepare(causal.KIND, dataclasses.replace(cfg, length=12), tokenizer)
    with pytest.raises(DataError, match="has 12 tokens, more than data.length=11"):
        prepare(causal.KIND, dataclasses.replace(cfg, length=11), tokenizer)


def test_a_variant_whose_answers_would_lose_their_context_is_named():
    config = load_config("gpt_mechanisms:copy")
    config.data.mechanism.train = config.data.mechanism.valid = 3
    config.eval.variants = ("longer:mechanism.length=30",)
    experiment = resolve(config)
    workload = experiment.workload
    data = workload.prepare(experiment)
    with pytest.raises(DataError, match="^eval.variants, 'longer': .* has 60 tokens"):
        workload.make_evaluator(experiment, data, mesh=None)


def test_a_split_without_an_answer_is_refused(tmp_path):
    for name, text in (("train", "a b = c"), ("valid", "a b c")):
        (tmp_path / name).write_text(text)
    cfg = causal.Config(
        source="files",
        train_files=(str(tmp_path / "train"),),
        valid_files=(str(tmp_path / "valid"),),
        layout="single",
        asked="answers",
    )
    with pytest.raises(DataError, match="valid split: none of 1 documents has an ans"):
        prepare(causal.KIND, cfg, vocabularies.Config(kind="word"))


@pytest.mark.slow
def test_a_model_that_can_look_back_solves_it_and_one_that_cannot_guesses(tmp_path):
    """The first layer reads the key of the query, the second its value."""
    scores = {}
    for name, window in (("sees", ()), ("blind", (1,))):
        knobs = {
            "mesh.data": 1,
            "data.mechanism.joined": True,
            "data.mechanism.length": 3,
            "data.mechanism.symbols": 4,
            "data.mechanism.queries": 3,
            "data.mechanism.train": 1_000,
            "data.length": 20,
            "model.windows": ",".join(map(str, window)),
            "model.depth": 2,
            "model.width": 32,
            "model.ffn_width": 64,
            "train.total_steps": 150,
            "train.batch_tokens": 640,
            "optim.peak_lr": 1e-2,
            "optim.warmup_steps": 20,
            "eval.every_steps": 150,
            "eval.pictures": False,
        }
        argv = ["--config=gpt_mechanisms:recall", f"--workdir={tmp_path / name}"]
        argv += [f"--config.{name}={value}" for name, value in knobs.items()]
        assert main.main(argv) == exits.OK
        results = json.loads((tmp_path / name / "results.json").read_text())
        scores[name] = results["valid"]
    assert scores["sees"]["accuracy"] > 0.95
    assert abs(scores["blind"]["accuracy"] - scores["blind"]["chance"]) < 0.1
    np.testing.assert_allclose(scores["sees"]["chance"], 0.25, atol=0.02)
