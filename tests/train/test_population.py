import functools
import json
import shutil

import jax
import numpy as np
import pytest

from tests.reliability import tiny
from tests.train import test_plateau
from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.runs import resume
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process.exits import Diverged, Preempted
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.train import finish, loop, population

pytestmark = pytest.mark.slow  # what they share takes long
STEPS = 12
RATES = (1e-2, 3e-3, 1e-2)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compiled once; no pictures and translations: results say how far a run got."""
    with tiny.compiled_once(), pytest.MonkeyPatch.context() as patch:
        step = functools.lru_cache(population.make_step)
        patch.setattr(population, "make_step", step)
        patch.setattr(finish, "finish", leave)
        yield


def leave(run, log):
    (run.workdir / "results.json").write_text(json.dumps({"step": run.step}))
    return {}


def config(seed, rate=1e-2, **changes):
    shared = dict(train__total_steps=STEPS, train__skip_limit=3, eval__every_steps=6)
    shared |= dict(checkpoint__every_steps=5)
    changes = shared | changes
    return tiny.get_config(seed=seed, optim__peak_lr=rate, **changes)


def newest(workdir):
    folder = max(workdir.glob("checkpoints/" + "[0-9]" * 6))
    return arrays.read(folder / "state", manifest.read(folder)["tree"])


def history(workdir, *kinds):
    return [r for r in read_history(workdir) if r["kind"] in kinds]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Three members, two of one rate; their workdirs."""
    folders = [tmp_path_factory.mktemp("member") for _ in RATES]
    configs = [config(seed, rate) for seed, rate in enumerate(RATES)]
    population.train(configs, folders)
    return folders


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The member of seed 1, by itself."""
    folder = tmp_path_factory.mktemp("alone")
    loop.train(config(1, RATES[1]), folder)
    return folder


def test_a_member_is_the_run_it_would_have_been_alone(together, alone):
    """The same batches, keys and rates; rounding apart."""
    member, run = newest(together[1]), newest(alone)
    assert member.keys() == run.keys()
    for name, value in run.items():
        if np.issubdtype(value.dtype, np.integer):
            np.testing.assert_array_equal(member[name], value)
        else:
            np.testing.assert_allclose(
                member[name], value, atol=1e-5, rtol=1e-4, err_msg=name
            )
    records = (history(f, "train", "valid") for f in (together[1], alone))
    for a, b in zip(*records, strict=True):
        for name in ("loss", "nll", "tokens", "learning_rate"):
            if name in a:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-5)


def test_each_member_leaves_what_a_run_leaves(together, alone):
    def files(folder):
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}

    def plain(names):
        return {n for n in names if not n.startswith(("tensorboard", "checkpoints"))}

    for folder in together:
        assert plain(files(folder)) == plain(files(alone))
    assert [len(history(f, "train")) for f in together] == [4] * 3
    assert {json.loads((f / "config.json").read_text())["seed"] for f in together} == {
        0, 1, 2,
    }  # fmt: skip


def test_members_differ(together):
    first, other = (newest(together[i]) for i in (0, 2))
    kernels = [n for n in first if n.startswith("params/") and n.endswith("kernel")]
    assert kernels
    for name in kernels:
        assert not np.array_equal(first[name], other[name])


def test_an_interrupted_population_goes_on_bit_for_bit(together, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    configs = [config(seed, rate) for seed, rate in enumerate(RATES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Preemption", lambda: tiny.StopAt((7,)))
        with pytest.raises(Preempted):
            population.train(configs, folders)
    assert [max(r["step"] for r in read_history(f)) for f in folders] == [6] * 3
    population.train(configs, folders)
    assert [tiny.digests(f) for f in folders] == [tiny.digests(f) for f in together]


def test_a_member_that_is_behind_catches_up(together, tmp_path):
    """Killed between two saves; the one ahead must not be trained beyond its end."""
    folders = [tmp_path / name for name in "abc"]
    configs = [config(seed, rate) for seed, rate in enumerate(RATES)]
    shutil.copytree(together[0], folders[0])
    (folders[0] / "results.json").unlink()
    population.train(configs, folders)
    for folder in folders:
        assert newest(folder)["step"] == STEPS
        assert json.loads((folder / "results.json").read_text()) == {"step": STEPS}
    run, member = newest(together[1]), newest(folders[1])
    assert run.keys() == member.keys()
    for name in (n for n in run if n.endswith("kernel")):
        np.testing.assert_allclose(member[name], run[name], rtol=1e-3, atol=1e-4)


def test_each_member_has_its_rate_cut_by_its_own_losses(tmp_path, monkeypatch):
    """Stopped where one is cut and gone on with, they are bit for bit the same."""
    monkeypatch.setattr(loop.Training, "_evaluate", test_plateau.evaluate)
    configs = [test_plateau.config(seed=0), test_plateau.config(seed=1)]
    whole, pieces = ([tmp_path / a / b for b in ("stalls", "falls")] for a in "ab")
    population.train(configs, whole)
    wanted = (test_plateau.RATES, [0.01] * 20)
    for folder, rates in zip(whole, wanted, strict=True):
        assert test_plateau.rates(folder) == pytest.approx(rates, rel=1e-5)
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        patch.setattr(loop, "Preemption", lambda: tiny.StopAt((12,)))
        population.train(configs, pieces)
    population.train(configs, pieces)
    assert [tiny.digests(f) for f in pieces] == [tiny.digests(f) for f in whole]


def test_a_member_that_diverges_leaves_the_others_alone(together, tmp_path, capsys):
    folders = [tmp_path / name for name in ("well", "ill", "too")]
    rates = (RATES[0], 1e9, RATES[2])
    with pytest.raises(Diverged, match="1 of 3 diverged: ill"):
        population.train([config(i, rate) for i, rate in enumerate(rates)], folders)
    assert resume.diverged(folders[1]).name == "000001"
    assert not (folders[1] / "results.json").exists()
    for folder, other in ((folders[0], together[0]), (folders[2], together[2])):
        assert (folder / "results.json").exists()
        jax.tree.map(np.testing.assert_array_equal, newest(folder), newest(other))


def test_what_has_finished_is_left_alone(together, capsys):
    before = [tiny.digests(f) for f in together]
    configs = [config(seed, rate) for seed, rate in enumerate(RATES)]
    population.train(configs, together)
    assert "finished before" in capsys.readouterr().out
    assert [tiny.digests(f) for f in together] == before


def test_runs_that_need_two_programs_are_refused(tmp_path):
    other = config(1, model__norm="pre")
    patient = config(0, train__stop_patience=2)
    with pytest.raises(ConfigError, match="train.stop_patience=2: members of a pop"):
        population.train([patient, patient], [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ConfigError, match="model.norm cannot differ.*optim.peak_lr"):
        population.train([config(0), other], [tmp_path / "a", tmp_path / "b"])
    bucket = [config(seed, data__batching="bucket") for seed in (0, 1)]
    with pytest.raises(ConfigError, match="choose from .pack, fixed"):
        population.train(bucket, [tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--each.seed=0,1,2",), "has 3 values"),
        (("--each.seed=0,1", "--config.seed=3"), "both say"),
        (("--each.sed=0,1",), "there is no knob 'sed'"),
        (("--each.seed=0,1", "--mode=eval"), "needs --config and --mode=train"),
    ],
)
def test_flags_of_a_population(tmp_path, capsys, flags, message):
    file = "configs/transformer_numerals_small.py"
    argv = [f"--config={file}", f"--workdir={tmp_path}/a,{tmp_path}/b", *flags]
    assert main.main(argv) == 78
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("mode", ["dry_run", "compile"])
def test_a_population_is_only_trained(capsys, mode):
    argv = ["--config=transformer_numerals_small", f"--mode={mode}", "--each.seed=0,1"]
    assert main.main(argv) == 78
    assert "--each needs --config and --mode=train" in capsys.readouterr().err


def test_two_runs_of_a_population_do_not_share_a_workdir(tmp_path, capsys):
    workdirs = f"--workdir={tmp_path}/a,{tmp_path}/./a"
    file = "configs/transformer_numerals_small.py"
    assert main.main([f"--config={file}", workdirs, "--each.seed=0,1"]) == 78
    assert "names one twice" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
