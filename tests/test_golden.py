"""Runs of earlier releases are read, scored and continued as their release did it."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.golden import families
from tests.golden.make import KEPT
from tfm_jax import bounded_json
from tfm_jax import config as configs
from tfm_jax.mesh import make_mesh
from tfm_jax.models import MODELS
from tfm_jax.notebook import load_run
from tfm_jax.runs.log import read_history
from tfm_jax.train import finish, loop

GOLDEN = Path(__file__).with_name("golden")
RUNS = sorted(path.parent for path in GOLDEN.glob("*/*/config.json"))
# since the last one
NEW = {"blip2", "conv_seq2seq", "dit", "flamingo", "qformer", "rnn_seq2seq", "unet"}
NEW |= {"vit"}
CLOSE = dict(rtol=2e-3)  # processors and compilers round differently
AT_ONCE = dict(rtol=1e-5, atol=1e-5)  # and have rounded one call, not twenty updates


def told(workdir, kind, field):
    """Step -> what the log says."""
    records = [x for x in read_history(workdir) if x["kind"] == kind]
    return {record["step"]: record[field] for record in records}


def test_every_release_left_its_runs():
    assert {path.parent.name for path in RUNS} >= {"0.1.0"}
    known = {configs.load_run(path).model_name for path in families.FOLDERS}
    assert known == {*MODELS} - NEW
    for path in RUNS + families.FOLDERS:
        files = [file for file in path.rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 250_000


@pytest.mark.parametrize("golden", RUNS, ids=lambda path: path.name)
def test_a_run_of_an_earlier_release_scores_as_it_did(golden):
    run = load_run(golden)
    assert run.path.name == f"{KEPT:06d}"
    work = run.config.workload
    data = work.prepare(run.config, run.tokenizer)
    mesh = make_mesh(run.config.mesh)
    with jax.set_mesh(mesh):
        found = work.make_evaluator(run.config, data, mesh).loss(run.params, "valid")
    for name in ("nll", "accuracy"):
        np.testing.assert_allclose(
            found[name], told(golden, "valid", name)[KEPT], **CLOSE
        )


@pytest.mark.parametrize("golden", RUNS, ids=lambda path: path.name)
def test_a_run_of_an_earlier_release_goes_on_as_it_did(golden, tmp_path, monkeypatch):
    if golden.name != "translation":  # one of them draws what is drawn at the end
        for name in ("_attention", "_draw"):
            monkeypatch.setattr(finish, name, lambda *_: None)
    workdir = shutil.copytree(golden, tmp_path / "run")
    results = loop.train(configs.load_run(workdir), workdir)
    losses, before = (told(path, "train", "loss") for path in (workdir, golden))
    assert losses.keys() == before.keys() and max(losses) > KEPT
    for step, loss in losses.items():
        np.testing.assert_allclose(loss, before[step], **CLOSE, err_msg=str(step))
    wanted = bounded_json.unsealed(bounded_json.read(golden / "results.json", dict))
    for split in wanted.keys() - {"step", "memory_bytes"}:
        np.testing.assert_allclose(results[split]["nll"], wanted[split]["nll"], **CLOSE)


@pytest.mark.parametrize("golden", families.FOLDERS, ids=lambda path: path.name)
def test_a_checkpoint_of_an_earlier_release_has_the_logits_it_had(golden):
    inputs, wanted = families.stored(golden)
    for x, old in zip(families.logits(golden, inputs), wanted, strict=True):
        np.testing.assert_allclose(x, old, **AT_ONCE)
