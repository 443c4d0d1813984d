"""`python -m tfm_jax.interop`: folders into workdirs, out of them, and compared."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.data.tokenizers import published_folders
from tests.models.tiny import tiny as tiny_pairs
from tests.models.tiny_text import tiny
from tfm_jax.config import ConfigError
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.interop import (
    load_huggingface,
    save_huggingface,
    tokenizer_files,
    verify,
    workdirs,
)
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.safetensors_io import read
from tfm_jax.main import main as train_main
from tfm_jax.models import albert, bert, electra, gpt
from tfm_jax.notebook import load_run
from tfm_jax.runs.storage import manifest

WORDS = published_folders.tokenizer("byte_bpe")
PIECES = published_folders.tokenizer("wordpiece")
GPT1 = dict(norm="post", ffn_width=32)
CHOICE = dict(head="classify", labels=1)
FAMILIES = {  # name: module, fields, tokenizer, task
    "gpt1": (gpt, GPT1, WORDS, "causal_lm"),
    "gpt1 with two heads": (gpt, GPT1 | CHOICE, WORDS, "classify"),
    "gpt2": (gpt, {}, WORDS, "causal_lm"),
    "neo": (gpt, dict(score="dot", biases="not_qkv"), WORDS, "causal_lm"),
    "bert": (bert, dict(head="pretraining"), PIECES, "masked_lm"),
    "bert for words": (bert, dict(head="masked_lm"), PIECES, "masked_lm"),
    "bert for labels": (bert, dict(head="classify", labels=3), PIECES, "classify"),
    "bert for tags": (bert, dict(head="tag", labels=5), PIECES, "tag"),
    "bert for spans": (bert, dict(head="span"), PIECES, "span"),
    "albert": (
        albert,
        dict(embedding_width=6, head="pretraining"),
        PIECES,
        "masked_lm",
    ),
    "generator": (
        electra,
        dict(embedding_width=8, head="masked_lm", share="none")
        | dict(generator_width=8, generator_heads=2, generator_ffn_width=12)
        | dict(generator_depth=2),
        PIECES,
        "masked_lm",
    ),
}


def write(folder, module, fields, tokenizer):
    """A folder with random weights: (config, params)."""
    model, params = tiny(module, **{"vocab": tokenizer.vocab} | fields)
    save_huggingface(folder, params, model.cfg)
    frame = "gpt1" if module is gpt else "bert"
    around = tokenizer_files.framed(frame, tokenizer.special)
    tokenizer_files.write(
        folder, tokenizer, around, longest=model.cfg.max_length, types=module is not gpt
    )
    return model.cfg, params


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """GPT-2's files, with a vocabulary above the tokenizer's, and a workdir of it."""
    folder = tmp_path_factory.mktemp("gpt2")
    model, params = tiny(gpt, vocab=WORDS.vocab + 3, max_length=16, depth=1)
    save_huggingface(folder / "theirs", params, model.cfg)
    published_folders.write_gpt2(folder / "theirs", WORDS)
    assert main(["import", str(folder / "theirs"), str(folder / "run")]) == 0
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_is_a_run_and_a_folder_again(name, tmp_path, capsys):
    module, fields, tokenizer, task = FAMILIES[name]
    config, params = write(tmp_path / "theirs", module, fields, tokenizer)
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    assert run.config.task == task
    assert run.config.model == load_huggingface(tmp_path / "theirs").config
    jax.tree.map(np.testing.assert_array_equal, run.params, params)
    text = ["def f(x): return naïve"]
    np.testing.assert_array_equal(
        run.tokenizer.encode(text)[0], tokenizer.encode(text)[0]
    )

    assert main(["export", str(tmp_path / "run"), str(tmp_path / "ours")]) == 0
    before, after = read(tmp_path / "theirs"), read(tmp_path / "ours")
    assert before.keys() == after.keys()
    for path, tensor in before.items():
        np.testing.assert_array_equal(after[path], tensor)
    assert load_huggingface(tmp_path / "ours").config == run.config.model
    assert "as a run that made no step" in capsys.readouterr().out


def test_a_joint_electra_is_exported_tower_by_tower(tmp_path):
    sizes = dict(generator_width=8, generator_heads=2, generator_ffn_width=12)
    model, params = tiny(electra, embedding_width=8, **sizes, vocab=PIECES.vocab)
    folder = workdir_of(tmp_path, model.cfg, params)
    for options, head in (([], "replaced"), (["--tower=generator"], "masked_lm")):
        new = tmp_path / head
        assert main(["export", str(folder), str(new), *options]) == 0
        cfg, wanted = electra.part(model.cfg, params, head)
        found = load_huggingface(new)
        assert found.config.head == head
        jax.tree.map(np.testing.assert_array_equal, found.params, dict(wanted))


def test_a_discriminator_that_restored_words_is_not_exported_as_one_that_judged(
    tmp_path, capsys
):
    sizes = dict(generator_width=8, generator_heads=2, generator_ffn_width=12)
    sizes |= dict(embedding_width=8, vocab=PIECES.vocab, head="all_tokens_mlm")
    model, params = tiny(electra, **sizes)
    folder = workdir_of(tmp_path, model.cfg, params, "all_tokens_mlm")
    new = str(tmp_path / "new")
    assert main(["export", str(folder), new]) == 78
    assert "head='all_tokens_mlm' does not tell replaced" in capsys.readouterr().err
    assert main(["export", str(folder), new, "--tower=generator"]) == 0
    assert load_huggingface(new).config.head == "masked_lm"
    assert main(["export", str(folder), new, "--tower=left"]) == 78
    assert "--tower='left'; choose from (discriminator, gen" in capsys.readouterr().err


def workdir_of(tmp_path, config, params, task="replaced_tokens"):
    """A workdir with these parameters, by way of a generator's."""
    module, fields, tokenizer, _ = FAMILIES["generator"]
    write(tmp_path / "theirs", module, fields, tokenizer)
    where = workdirs.import_folder(tmp_path / "theirs", tmp_path / "made")
    built = load_run(where).config._replace(model=config, task=task)
    return workdirs.write_run(tmp_path / "joint", built, tokenizer, params, {}).parent


def test_evaluation_of_an_imported_run_takes_other_data(gpt2, tmp_path, capsys):
    text = "Python is a language. " * 40
    (tmp_path / "text.txt").write_text(text)
    knobs = [
        "--config.data.source=files",
        f"--config.data.train_files={tmp_path / 'text.txt'}",
        "--config.data.valid_share=0.5",
    ]
    code = train_main([f"--workdir={gpt2 / 'run'}", "--mode=eval", *knobs])
    scores = json.loads(capsys.readouterr().out)
    assert code == 0 and scores["split"] == "valid"
    run = load_run(gpt2 / "run")
    tokens = len(run.tokenizer.encode([text[len(text) // 2 :]])[0])
    assert abs(scores["tokens"] - tokens) <= 1
    # random weights know nothing: about log V, and no better than any other guess
    assert abs(scores["nll"] - np.log(run.config.model.vocab)) < 3


def test_an_imported_run_is_trained_and_goes_on(gpt2, tmp_path, capsys):
    """With a rate of zero nothing moves, so that it is seen where it began."""
    workdir = shutil.copytree(gpt2 / "run", tmp_path / "run")
    (tmp_path / "text.txt").write_text("Python is a language. " * 40)
    knobs = [
        "--config.data.source=files",
        f"--config.data.train_files={tmp_path / 'text.txt'}",
        "--config.train.batch_tokens=128",
        "--config.optim.peak_lr=0.0",
        "--config.optim.schedule=constant",  # it may go on for longer
        "--config.checkpoint.keep=1",
        "--config.mesh.data=1",
    ]
    train = [f"--workdir={workdir}", *knobs, "--config.train.total_steps=2"]
    assert train_main(train) == 0
    assert "from step" not in capsys.readouterr().out
    before, after = load_run(gpt2 / "run"), load_run(workdir)
    assert after.path.name == "000002"
    assert not (workdir / "checkpoints" / "000000").exists()
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    assert train_main([*train[:-1], "--config.train.total_steps=3"]) == 0
    assert "from step 2" in capsys.readouterr().out


def test_what_the_folder_says_is_in_the_configuration(gpt2):
    cfg = load_run(gpt2 / "run").config
    assert cfg.model.vocab == WORDS.vocab + 3
    assert cfg.data.length == cfg.model.max_length == 16
    assert cfg.tokenizer.kind == "published"
    again = TextTokenizer.load(cfg.tokenizer.file)
    assert again.fingerprint == load_run(gpt2 / "run").tokenizer.fingerprint


def test_transformers_reads_the_tokenizer_and_the_ids_that_are_written(gpt2):
    transformers = pytest.importorskip("transformers")
    assert main(["export", str(gpt2 / "run"), str(gpt2 / "ours")]) == 0
    theirs = transformers.AutoTokenizer.from_pretrained(gpt2 / "ours")
    config = transformers.AutoConfig.from_pretrained(gpt2 / "ours")
    end = WORDS.special["<|endoftext|>"]
    assert (theirs.eos_token_id, config.eos_token_id) == (end, end)
    assert config.pad_token_id is None
    for text in published_folders.AWKWARD:
        if "<|endoftext|>" in text:
            continue  # a special token to transformers, but text here
        assert theirs(text)["input_ids"] == WORDS.encode([text])[0].tolist()


def test_a_translation_run_goes_out_and_comes_in_with_its_tokenizer(tmp_path):
    lines = ["one two three", "four five six"]
    cfg = bilingual.Config(kind="character", vocab=300)
    words = bilingual.train_tokenizer(cfg, lines, lines)
    sizes = dict(source_vocab=words.source_vocab, target_vocab=words.target_vocab)
    model, params = tiny_pairs(
        **sizes, positions="sinusoidal_halves", norm_eps=1e-5, output_bias=True
    )
    save_huggingface(tmp_path / "theirs", params, model.cfg)
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "run")]) == 78
    words.save(tmp_path / "words.json")
    given = f"--tokenizer={tmp_path / 'words.json'}"
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "run"), given]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "ours")]) == 0
    assert main(["import", str(tmp_path / "ours"), str(tmp_path / "again")]) == 0
    first, again = load_run(tmp_path / "run"), load_run(tmp_path / "again")
    assert first.tokenizer.to_json() == again.tokenizer.to_json() == words.to_json()
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    assert first.translate(["two six"], beam=1) == again.translate(["two six"], beam=1)


MISTAKES = {  # arguments, {} being a folder with GPT-2 and its workdir -> the complaint
    "import {}/theirs {}/run": "run holds a run; choose another WORKDIR",
    "import {}/nothing {}/new": "there is no folder",
    "import {}/theirs {}/new --tokenizer={}/nothing": "there is no",
    "import {}/bare {}/new": "there is no tokenizer in",
    "import {}/pieces {}/new": "spiece.model holds, transformers writes as",
    "import {}/theirs": "the following arguments are required: workdir",
    "export {}/nothing {}/new": "no checkpoint in",
    "export {}/run {}/theirs": "is not empty",
    "export {}/run {}/new --model_type=gpt_neo": "gpt_neo has no counterpart",
    "export {}/run {}/new --tower=generator": "is for a jointly trained model (elec",
    "verify {}/nothing": "there is no folder",
    "verify": "required: folder",
    "compare {}/theirs": "invalid choice: 'compare'",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_code_78(command, gpt2, capsys):
    for name in ("bare", "pieces"):
        if not (gpt2 / name).exists():
            model, params = tiny(gpt, vocab=30)
            save_huggingface(gpt2 / name, params, model.cfg)
    (gpt2 / "pieces" / "spiece.model").touch()
    assert main(command.format(*[gpt2] * 3).split()) == 78
    out, err = capsys.readouterr()
    assert err.startswith("tfm_jax.interop: ") and err.count("\n") == 1 and not out
    assert MISTAKES[command] in err
    assert not (gpt2 / "new").exists()


def test_a_damaged_checkpoint_is_not_exported(gpt2, tmp_path, capsys):
    module, fields, tokenizer, _ = FAMILIES["gpt2"]
    write(tmp_path / "theirs", module, fields, tokenizer)
    where = workdirs.import_folder(tmp_path / "theirs", tmp_path / "run")
    (where / manifest.NAME).write_text("{}")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "new")]) == 65
    assert "corrupt" in capsys.readouterr().err


def test_help_is_what_the_module_says():
    done = subprocess.run(
        [sys.executable, "-m", "tfm_jax.interop", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "import FOLDER WORKDIR" in done.stdout


def test_without_transformers_verify_says_what_to_install(gpt2, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["verify", str(gpt2 / "theirs")]) == 78
    assert "pip install torch transformers" in capsys.readouterr().err


VERIFIED = {
    "gpt1 with two heads": 4 * 2 + 1,  # rows times outputs, and ids of texts
    "bert": 6 * 2 + 2,
    "bert for spans": 6 * 2 + 2,
}


@pytest.mark.parametrize("name", VERIFIED)
def test_the_same_outputs_pass_and_others_fail(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    module, fields, tokenizer, _ = FAMILIES[name]
    write(tmp_path, module, fields | dict(depth=1), tokenizer)
    assert main(["verify", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == VERIFIED[name] + 2
    assert lines[-1] == "PASS: no output differs by more than 0.0001"

    def disturbed(folder):
        loaded = load_huggingface(folder)
        params = jax.tree.map(lambda x: np.asarray(x) + 3e-3, loaded.params)
        return loaded._replace(params=params)

    monkeypatch.setattr(verify.folders, "load", disturbed)
    assert main(["verify", str(tmp_path)]) == 1
    assert "FAIL: an output differs" in capsys.readouterr().out


def test_pairs_are_compared_too(tmp_path):
    pytest.importorskip("transformers")
    model, params = tiny_pairs(
        **dict(positions="sinusoidal_halves", norm_eps=1e-5, output_bias=True),
        decoder_depth=1,
    )
    save_huggingface(tmp_path, params, model.cfg)
    found = verify.compare(tmp_path)
    assert verify.passed(found) and all(d.value > 0.1 for d in found)
    assert {d.rows for d in found} == {"one token", "full rows", "padded rows"}
    assert not verify.passed([found[0]._replace(difference=float("nan"))])


def test_a_head_that_no_task_trains_is_refused():
    with pytest.raises(ConfigError, match="no task here trains bert .*'pair'"):
        workdirs.task_of(bert.Config(head="pair"))
