"""What README and guides tell people to type runs: in order, in one folder.

The folder lies outside of the project and has the files that the texts take for given
(``FILES``). Models, data and numbers of steps are small (``tests/small.py``,
``FEWER``). A run
that nothing after it speaks of is prepared and not trained; runs of studies leave
results at once. What this machine cannot do is read as its program would read it
(``ONLY_READ``, with the reason).
"""

import gzip
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import experiments.run
from experiments import plan
from experiments.compare import __main__ as compare
from experiments.costs import sizes
from experiments.engines import local
from tests.experiments import tiny_study
from tests.interop.test_command import FAMILIES, write
from tests.models.tiny import tiny
from tests.pages import IN_ORDER, blocks, command_lines, text
from tests.small import small
from tests.workloads.image_runs import write_idx
from tfm_jax import api, main
from tfm_jax import config as configs
from tfm_jax.interop import __main__ as interop
from tfm_jax.interop import save_huggingface
from tfm_jax.notebook import __main__ as notebooks
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import finish

FEWER = {  # what a page says -> what it says here
    "averaged/001000": "averaged/000002",
    "averaged/008000": "averaged/000002",
    "--extend=2000": "--extend=1",
    "--last=3": "--last=2",
    "--last=10": "--last=2",
    "--config.eval.samples=500": "--config.eval.samples=20",
    "checkpoints/001000": "checkpoints/000002",
    "y:tiny ": "y:tiny --config.data.source=files --config.data.train_files=input.txt ",
}
ONLY_READ = {  # a command with this is not carried out -> why
    "make ": "it sets up an environment",
    "pip install": "it sets up an environment",
    "source ": "it is for a shell",
    "docker ": "it takes docker",
    "srun ": "it takes a cluster",
    "--config.train.trackers=": "it takes an account",
    "--profile=": "the run has ended before that step",
    "interop verify": "it takes torch, see tests/interop",
    "--topology=": "it takes compilers for other machines",
    "experiments.paper": "it writes pages of the project, see test_paper",
    "configs/transformer_wmt.py": "it takes a data set, and eight devices",
}
CODES = {"--mode=replay": 78}  # of commands that do not end with 0: nothing diverged

PAIRS = [("a man sleeps", "ein mann schläft"), ("two dogs run", "zwei hunde laufen")]
TEXTS = [("a fine film", "1"), ("a waste of time", "0")]
ENGLISH, GERMAN = ("\n".join(side * 20) + "\n" for side in zip(*PAIRS, strict=True))
TABLE = "".join(f"{words}\t{label}\n" for words, label in TEXTS * 20)
FILES = {
    **dict.fromkeys(("train.en", "valid.en", "test.en", "val.en"), ENGLISH),
    **dict.fromkeys(("train.de", "valid.de", "test.de", "val.de"), GERMAN),
    **dict.fromkeys(("train.tsv", "dev.tsv", "new.tsv"), TABLE),
    "test.tsv": "".join(f"{english}\t{german}\n" for english, german in PAIRS * 20),
    "captions.txt": "a red ring\na blue cross\n",
    "test_2016_flickr.en": ENGLISH,
    "test_2016_flickr.de": GERMAN,
    "input.txt": "First Citizen:\nWe are accounted poor citizens.\n\n" * 60,
}


def steps(page):
    """What a page tells to do: the words of a command, or text in Python."""
    for language, block in blocks(page):
        for large, less in FEWER.items():
            block = block.replace(large, less)
        yield from command_lines(block) if language == "bash" else [block]


def read(argv):
    """The first run that a command of ``tfm_jax.main`` would train, if it may."""
    values, knobs = main.parse(argv)
    made = [main.load_config(values, knobs)]
    if any(knob.startswith("--each.") for knob in knobs):
        made, _ = main.members(values, knobs)
    first, *_ = map(resolve, made)
    api.check_new(first, {knob.partition("=")[0].split(".", 1)[1] for knob in knobs})
    return first


def write_images(folder):
    """Two classes of images; and the files of MNIST, of ten classes."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    for name in ("train", "t10k"):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", noise)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(40) % 10)
    for number, image in enumerate(noise):
        path = folder / "pets" / ("cat", "dog")[number % 2] / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


class Reader:
    """Follows the pages in their order, each once, and no command twice."""

    def __init__(self, folder):
        self.folder, self.pages, self.done = folder, iter(IN_ORDER), []
        self.left = [step for page in IN_ORDER for step in steps(page)]
        for name, content in FILES.items():
            (folder / name).write_text(content, "utf-8")
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        write_images(folder)
        (folder / "sbatch").write_text("#!/bin/sh\necho 1\n")
        (folder / "sbatch").chmod(0o755)
        write(folder / "bert-base-uncased", *FAMILIES["bert"][:3])
        vocabs = dict(source_vocab=58_101, target_vocab=58_101)
        model, params = tiny(positions="sinusoidal_halves", norm_eps=1e-5, **vocabs)
        save_huggingface(folder / "opus-mt-en-de", params, model.cfg)
        self.programs = {  # how a command begins -> what gets the rest of it
            "python -m tfm_jax.main": self.main,
            "tfm-jax": self.main,
            "python -m tfm_jax.interop": interop.main,
            "tfm-jax-interop": interop.main,
            "python -m experiments.run": experiments.run.main,
            "tfm-jax-study": experiments.run.main,
            "python -m experiments.compare": compare.main,
            "tfm-jax-compare": compare.main,
            "tfm-jax-notebooks": notebooks.main,
        }

    def follow(self, page, monkeypatch):
        for step in steps(page):
            self.left.pop(0)
            if step in self.done:
                continue
            self.done.append(step)
            if isinstance(step, list):
                self.command(step, monkeypatch)
            elif named := re.match(r"# (\w+\.py)\n", step):
                Path(named[1]).write_text(step, "utf-8")
            else:
                Path("shown.py").write_text(step, "utf-8")
                runpy.run_path("shown.py")

    def command(self, words, monkeypatch):
        if words[0] == "make":
            assert f"\n{words[1]}:" in text("Makefile")
        if any(part in f"{shlex.join(words)} " for part in ONLY_READ):
            if "tfm_jax.main" in words:
                read(words[words.index("tfm_jax.main") + 1 :])
            return
        if "|" in words:  # echo TEXT | PROGRAM
            bar = words.index("|")
            assert words[0] == "echo"
            typed, words = " ".join(words[1:bar]).encode(), words[bar + 1 :]
            stdin = io.TextIOWrapper(io.BytesIO(typed + b"\n"))
            monkeypatch.setattr(sys, "stdin", stdin)
        line = f"{shlex.join(words)} "
        (program,) = (begin for begin in self.programs if line.startswith(f"{begin} "))
        argv = words[len(program.split()) :]
        expected = next((code for part, code in CODES.items() if part in argv), 0)
        assert self.programs[program](argv) == expected, line

    def main(self, argv):
        """``tfm_jax.main``; a run that nothing after it speaks of is not trained."""
        values, _ = main.parse(argv)
        if values.config and values.mode == "train" and "--help" not in argv:
            left = [step for step in self.left if step not in self.done]
            later = "\n".join(s if isinstance(s, str) else shlex.join(s) for s in left)
            if not re.search(rf"{values.workdir}\b", later):
                api.prepare(read(argv))
                return 0
        return main.main(argv)


SCORES = {"nll": 1.0, "accuracy": 0.5}  # of a run of a study


class Ended:
    """A process of a study's run that has left results, whatever it was to train."""

    pid = 2**22 + 1  # of no process

    def __init__(self, argv, **_):
        (workdir,) = (word for word in argv if word.startswith("--workdir="))
        folder = Path(workdir.partition("=")[2])
        if "tfm_jax.main" in argv:  # not of two stages
            run = read(argv[argv.index("tfm_jax.main") + 1 :]).as_dict()
            (folder / "config.json").write_text(configs.to_json(run), "utf-8")
        api.replace(folder / "results.json", {"valid": SCORES})

    def poll(self):
        return 0


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    processes = SimpleNamespace(**vars(subprocess) | {"Popen": Ended})
    load, load_config = configs.load, main.load_config

    def load_small(values, *flags):
        config = load_config(values, *flags)
        return small(config) if values.config else config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "subprocess", processes)
        patch.setattr(main, "load_config", load_small)
        patch.setattr(configs, "load", lambda file: small(load(file)))
        patch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
        patch.setattr(plan, "score_names", lambda _: [f"valid/{s}" for s in SCORES])
        for name in ("_attention", "_draw"):  # tested elsewhere
            patch.setattr(finish, name, lambda *_: None)
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        patch.setenv("MPLBACKEND", "agg")
        yield Reader(folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", IN_ORDER)
def test_every_command_of_a_page_runs_after_those_before(page, reader, monkeypatch):
    monkeypatch.chdir(reader.folder)
    for before in reader.pages:
        reader.follow(before, monkeypatch)
        if before == page:
            break
