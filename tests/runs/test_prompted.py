"""Tables of labelled texts, put to a language model from the command line."""

import json

import pytest

from tests.workloads.test_language import TEXT, get_config
from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.decode.prompting import Example, Prompting
from tfm_jax.notebook import load_run
from tfm_jax.runs.process import exits
from tfm_jax.runs.prompted import few_shot, read_examples
from tfm_jax.train import loop

ROWS = [("the cat", "mat"), ("the dog", "log"), ("dog", "log"), ("a cat", "mat")]
TEMPLATE = "{text} sat on the {label}"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "cat.txt").write_text(TEXT + "\n\n" + TEXT)
    config = get_config(folder / "cat.txt", train__total_steps=1, model__max_length=96)
    loop.train(config, folder / "run")
    return folder / "run"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "task.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in ROWS))
    (tmp_path / "more.tsv").write_text("a dog\tlog\nthe mat\tmat\n")
    (tmp_path / "sst.tsv").write_text("sentence\tlabel\nfine\t1\ndull\t0\n")
    return tmp_path


def prompted(workdir, *flags):
    return main.main([f"--workdir={workdir}", "--mode=prompt", *flags])


def test_a_file_is_put_to_a_run(workdir, files, capsys):
    flags = [
        f"--task_file={files}/task.tsv", f"--examples_file={files}/more.tsv",
        "--examples=2", "--scoring=mean", f"--template={TEMPLATE}\\n",
    ]  # fmt: skip
    assert prompted(workdir, *flags) == exits.OK
    found = json.loads(capsys.readouterr().out)
    run = load_run(workdir)
    table = run.few_shot(
        ROWS, files / "more.tsv", k=2, scoring="mean", template=TEMPLATE + "\n"
    )
    assert found["accuracy"] == table.right.mean()
    assert (found["queries"], found["examples"], found["majority"]) == (4, 2, 0.5)
    assert table.label.tolist() == [label for _, label in ROWS]
    best = table[["score of log", "score of mat"]].idxmax(axis=1)
    assert ("score of " + table.answer == best).all()


def test_what_a_model_would_say_is_its_own_likelihood(workdir):
    run = load_run(workdir)
    how = Prompting(template=TEMPLATE)
    queries = [Example(*row) for row in ROWS]
    found = few_shot(run, queries, [], how)
    for number, (text, _) in enumerate(ROWS):
        prefix = f"{text} sat on the"
        scores = run.score([" log", " mat"], prefix=prefix).log_prob
        assert scores.tolist() == pytest.approx(
            found.answers.scores[number].tolist(), rel=1e-4
        )
    table = run.few_shot(ROWS, scoring="generated", template=TEMPLATE)
    assert "written" in table and set(table.answer) <= {"", "log", "mat"}


def test_tables_have_the_columns_of_their_task(files):
    assert read_examples(files / "task.tsv", knob="x") == [Example(*r) for r in ROWS]
    found = read_examples(files / "sst.tsv", table="sst2", knob="x")
    assert found == [Example("fine", "1"), Example("dull", "0")]
    with pytest.raises(ConfigError, match=r"table='sst'; choose from \(columns, cola"):
        read_examples(files / "sst.tsv", table="sst", knob="x")
    (files / "pairs.tsv").write_text("id\ta\tb\tsame\n1\tone\ttwo\tno\n")
    found = read_examples(files / "pairs.tsv", columns="a,b,same", knob="x")
    assert found == [Example("one", "no", "two")]
    found = read_examples(files / "task.tsv", columns="1,0", knob="x")
    assert found == [Example(b, a) for a, b in ROWS]
    with pytest.raises(DataError, match="no column 'c'; it has id, a, b, same"):
        read_examples(files / "pairs.tsv", columns="a,c", knob="x")
    for wrong in ("a", "a,,b", "a,b,c,d"):
        with pytest.raises(ConfigError, match="write TEXT,LABEL or TEXT,SECOND,LABEL"):
            read_examples(files / "pairs.tsv", columns=wrong, knob="x")
    with pytest.raises(ConfigError, match="table='stsb' has numbers"):
        read_examples(files / "sst.tsv", table="stsb", knob="x")
    with pytest.raises(DataError, match="--task_file: .*none.tsv"):
        read_examples(files / "none.tsv", knob="--task_file")


@pytest.mark.parametrize(
    "flags, code, message",
    [
        ([], exits.BAD_CONFIG, "needs --task_file"),
        (["--task_file={}/task.tsv", "--examples=1"], exits.BAD_CONFIG, "file too"),
        (["--task_file={}/none.tsv"], exits.BAD_DATA, "none.tsv"),
        (["--task_file={}/task.tsv", "--words=log"], exits.BAD_CONFIG, "NAME=WORD"),
        (
            ["--task_file={}/task.tsv", "--words=a=b,a=c"],
            exits.BAD_CONFIG,
            "given twice",
        ),
        (["--task_file={}/task.tsv", "--scoring=x"], exits.BAD_CONFIG, "choose from"),
        (["--task_file={}/sst.tsv"], exits.BAD_DATA, "does not know"),
        (
            [
                "--task_file={0}/task.tsv",
                "--examples_file={0}/task.tsv",
                "--examples=4",
            ],
            exits.BAD_CONFIG,
            "takes 96 (model.max_length): 1 fit every query",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line(workdir, files, flags, code, message, capsys):
    template = "--template={text} sat on the log on the {label}"
    flags = [flag.format(files) for flag in flags] + [template]
    assert prompted(workdir, *flags) == code
    assert message in capsys.readouterr().err


def test_examples_are_pairs_or_triples(workdir):
    run = load_run(workdir)
    with pytest.raises(TypeError, match="queries has 'a cat', which is no"):
        run.few_shot(["a cat"])
    with pytest.raises(TypeError, match="examples has"):
        run.few_shot(ROWS, [("a", "b", "c", "d")])
