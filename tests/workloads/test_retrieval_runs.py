"""A run that has learnt to retrieve: scored, asked in a notebook and by commands."""

import dataclasses
import functools
import io

import jax
import numpy as np
import pytest
from PIL import Image

from tests.workloads.pair_runs import SCENES, qformer
from tfm_jax.config import ConfigError
from tfm_jax.main import main
from tfm_jax.mesh import make_mesh
from tfm_jax.notebook import load_run
from tfm_jax.runs.images import classified
from tfm_jax.train import loop
from tfm_jax.workloads import retrieval

SAMPLES = 12
TEXTS = ["a red ring", "a blue cross", "a green square"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, results)."""
    workdir = tmp_path_factory.mktemp("pairs")
    config = qformer(
        data=dict(scenes=SCENES | dict(valid=20)),
        eval=dict(every_steps=6, samples=SAMPLES),
    )
    return workdir, loop.train(config, workdir)


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained[0])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of two images and a file of texts: (folder, file)."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    texts = folder / "captions.txt"
    texts.write_text("\n".join([*TEXTS, "", "  ", "\t", ""]))
    return folder, texts


def test_captions_and_ranks_are_scored_of_so_many_pairs(trained, run):
    """And the names of the scores are known before there are any."""
    workdir, results = trained
    experiment = run.config
    data = experiment.workload.prepare(experiment, run.tokenizer)
    names = {*experiment.workload.final_scores(experiment, data, "valid")}
    assert names <= results["valid"].keys()
    of_ranks = {
        f"{kind}{name}_recall_{k}"
        for kind in ("", "reranked_")
        for name in retrieval.RETRIEVED
        for k in retrieval.AT
    }
    assert names == of_ranks | {"exact_match", "caption_exact_match", "bleu"}
    lines = (workdir / "answers-valid.txt").read_text().splitlines()
    (rows,) = data.valid
    written = run.caption(rows.images[:SAMPLES, 0])
    references = [x.references[0] for x in data.examples["valid"]]
    assert lines == [
        f" -> {text} ({reference})"
        for text, reference in zip(written, references[:SAMPLES], strict=True)
    ]


def test_a_notebook_ranks_candidates_again(run, files):
    paths = [files[0] / f"{number}.png" for number in range(2)]
    cosines = run.retrieve(TEXTS, paths)
    assert [*cosines.index] == [*map(str, paths)] and [*cosines] == TEXTS
    again = run.retrieve(TEXTS, paths, rerank=1)
    row, column = cosines.to_numpy().argmax(1), cosines.to_numpy().argmax(0)
    chosen = np.zeros((2, 3), bool)
    chosen[[0, 1], row] = chosen[column, [0, 1, 2]] = True
    np.testing.assert_array_equal(again.notna(), chosen)
    rows = retrieval.text_rows(run.config.data, run.tokenizer, TEXTS)
    pixels = classified.read(run, paths)
    states_of, match = (
        jax.jit(functools.partial(run.model.apply, train=False, method=method))
        for method in ("image_states", "match")
    )
    params = {"params": run.params}
    for image, text in np.argwhere(chosen):
        states = states_of(params, pixels[image][None, None])
        row = type(rows)(rows.tokens[[text]], rows.segments[[text]])
        logits = match(params, states, row)
        wanted = logits[0, 1] + cosines.iloc[image, text]
        assert again.iloc[image, text] == pytest.approx(float(wanted), abs=1e-4)
    with pytest.raises(ValueError, match="rerank=-1 must be 0 or more"):
        run.retrieve(TEXTS, paths, rerank=-1)


def test_words_that_the_run_does_not_know_are_named(run, files, caplog):
    paths = [files[0] / "0.png"]
    run.retrieve(TEXTS, paths)
    assert not caplog.messages
    run.retrieve([*TEXTS, "數 ring"], paths)
    (warning,) = caplog.messages
    assert "1 of 4 texts have words" in warning and "'數 ring'" in warning


def test_evaluation_can_be_stopped_between_batches(run):
    experiment = run.config
    data = experiment.workload.prepare(experiment, run.tokenizer)
    evaluator = experiment.workload.evaluator(
        experiment, data, make_mesh(experiment.mesh)
    )
    calls = []
    evaluator.final(run.params, "valid", poll=lambda: calls.append(1))
    losses = len([*evaluator.batches("valid")])
    # texts, images, matches of both, captions
    assert len(calls) > losses + 3


def test_a_notebook_shows_what_queries_attend_to(run, files):
    alone, read = (run.attention(files[0] / "0.png", x) for x in (None, TEXTS[0]))
    assert alone.on_grid().shape == (3, 2, 2) and alone.image.shape == (16, 16, 3)
    assert not np.array_equal(alone.weights, read.weights)
    with pytest.raises(TypeError, match="texts has 3, which is no string"):
        run.attention(files[0] / "0.png", 3)


def test_a_run_that_learnt_less_says_what_is_missing(run):
    image = np.zeros((1, 16, 16, 3), np.uint8)
    for learnt, ask, missing in [
        (("contrastive",), lambda run: run.caption(image), "'generation' writes"),
        (
            ("contrastive",),
            lambda run: run.retrieve(TEXTS, image, rerank=2),
            "rerank takes 'matching'",
        ),
        (
            ("generation",),
            lambda run: run.retrieve(TEXTS, image),
            "retrieval takes 'contrastive'",
        ),
    ]:
        data = dataclasses.replace(run.config.data, objectives=learnt)
        less = run._replace(experiment=run.config._replace(data=data))
        with pytest.raises(ConfigError, match=missing):
            ask(less)


@pytest.mark.parametrize("rerank", [0, 3])
def test_files_get_the_texts_that_fit_best(run, files, rerank, capsys, monkeypatch):
    folder, texts = files
    command = [f"--workdir={run.workdir}", "--mode=retrieve", f"--input={folder}"]
    command += ["--count=2", f"--rerank={rerank}"]
    assert main([*command, f"--texts={texts}"]) == 0
    out = capsys.readouterr().out
    lines = [line.split("\t") for line in out.splitlines()]
    paths = [folder / f"{number}.png" for number in range(2)]
    scores = run.retrieve(TEXTS, paths, rerank=rerank)
    for line, (path, row) in zip(lines, scores.iterrows(), strict=True):
        best = row.sort_values(ascending=False)[:2]
        assert [line[0], *line[1::2]] == [path, *best.index]
        assert [float(x) for x in line[2::2]] == pytest.approx([*best], abs=1e-4)
    typed = texts.read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert main(command) == 0 and capsys.readouterr().out == out


def test_files_get_a_caption_too(run, files, capsys):
    file = files[0] / "0.png"
    command = [f"--workdir={run.workdir}", "--mode=caption", f"--input={file}"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{file}\t{run.caption([file])[0]}\n"


@pytest.mark.parametrize(
    "flags, code, message",
    [
        ([], 78, "--mode=retrieve needs --input=FILE,FOLDER,..."),
        (["--input=.", "--texts=none.txt"], 65, "--texts: there is no file none.txt"),
        (["--input=.", "--texts=/dev/null"], 65, "/dev/null has no text"),
        (["--input=.", "--rerank=2"], 78, "--rerank=2 must be at least --count=5"),
        (["--input=.", "--count=0"], 78, "--count"),
        (["--input=", "--texts=/proc/version"], 78, "--input= names no file"),
        (["--question=what ?"], 78, "--question is not for --mode=retrieve"),
    ],
)
def test_a_wrong_command_is_told_what_is_wrong(run, flags, code, message, capsys):
    assert main([f"--workdir={run.workdir}", "--mode=retrieve", *flags]) == code
    assert message in capsys.readouterr().err


def test_a_run_of_captions_alone_is_asked_no_question(run, files, capsys):
    command = [f"--workdir={run.workdir}", "--mode=caption", f"--input={files[0]}"]
    assert main([*command, "--question=how many ?"]) == 78
    assert "is for visual_lm; the run learnt retrieval" in capsys.readouterr().err
