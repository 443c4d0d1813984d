"""A family that lies outside of the package does all that one inside does."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.plan import Plan
from experiments.runs import attempts
from tests.models import outside
from tests.reliability import tiny
from tests.workloads.text_runs import write_files
from tfm_jax import interop, models
from tfm_jax.config import ConfigError
from tfm_jax.interop import maps
from tfm_jax.main import main
from tfm_jax.notebook import RUNS, load_run
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop

pytestmark = pytest.mark.usefixtures("compiled_once")

CONFIG = """
from pathlib import Path

from tests.models import outside
from tfm_jax import models

models.register(outside.FAMILY)


def get_config():
    return outside.get_config(Path({files!r}))
"""
STUDY = """'''Does width help?

Nobody 2026, section 1.
'''

from experiments.study import Study, better


def get_study(scale="cpu"):
    return Study(
        config={config!r},
        arms={{"narrow": {{}}, "wide": {{"model.width": 16}}}},
        baseline="narrow",
        metric="valid/nll",
        sesoi=0.01,
        seeds=(0, 1),
        fixed_rate="tiny",
        expect=(better("wide", "narrow", "width helps"),),
    )
"""


@pytest.fixture(scope="module", autouse=True)
def known():
    models.register(outside.FAMILY)
    yield
    models.MODELS.pop(outside.FAMILY.name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """(workdir, results) of six steps."""
    workdir = tmp_path_factory.mktemp("mean")
    return workdir, loop.train(outside.get_config(files), workdir)


def test_it_trains_is_scored_and_loaded(trained):
    workdir, results = trained
    assert np.isfinite(results["valid"]["nll"])
    assert main(["--mode=eval", f"--workdir={workdir}"]) == 0
    run = load_run(workdir)
    assert type(run.config.model) is outside.Config
    assert (run.score(["the cat says meow."])["log_prob"] < 0).all()


def test_a_run_of_a_task_of_somebody_elses_is_loaded_too(trained, monkeypatch):
    workdir, results = trained
    monkeypatch.delitem(RUNS, "causal_lm")
    assert load_run(workdir).evaluate()["nll"] == pytest.approx(results["valid"]["nll"])


def test_what_only_a_model_with_a_cached_step_can_do_is_refused(files):
    config = outside.get_config(files)
    config.eval.samples = 3
    with pytest.raises(ConfigError, match="eval.samples=3: .*has no prefill and step"):
        resolve(config)


def test_it_goes_on_as_if_it_had_never_stopped(files, trained, tmp_path):
    config = outside.get_config(files)
    assert not tiny.run(tmp_path / "cut", config, stop=(3,))
    assert tiny.run(tmp_path / "cut", config)
    assert tiny.digests(tmp_path / "cut") == tiny.digests(trained[0])


def test_a_run_starts_from_another_but_for_what_belongs_to_a_task(
    files, trained, tmp_path
):
    config = outside.get_config(files, bias=True, init_from=str(trained[0]))
    loop.train(config, tmp_path)
    report = json.loads((tmp_path / "init_from.json").read_text())
    assert report["new"] == ["output/bias"] and not report["unused"]
    assert len(report["loaded"]) == 4


def test_it_is_an_arm_of_a_study(files, tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    config, study = tmp_path / "config.py", tmp_path / "study.py"
    config.write_text(CONFIG.format(files=str(files)))
    study.write_text(STUDY.format(config=str(config)))
    plan = Plan.load(str(study), tmp_path / "studies")
    plan.check()
    sizes = plan.sizes
    assert sizes["wide"]["parameters"] > sizes["narrow"]["parameters"]
    assert sizes["wide"]["flops_per_step"] > sizes["narrow"]["flops_per_step"]
    cell = next(c for c in plan.cells() if c.arm == "wide" and c.seed == 0)
    attempt = attempts.begin(cell, {})
    code = main(cell.command[2:])
    assert attempts.finish(cell, attempt, code, 1.0).name == "done"
    (row,) = (r for r in plan.again().rows() if r["status"] == "done")
    assert row["arm"] == "wide" and np.isfinite(row["metric"])


@dataclasses.dataclass(frozen=True)
class Map(interop.NameMap):
    """Tensors under our own paths."""

    def read_config(self, values):
        return outside.Config(**values["fields"])

    def write_config(self, cfg):
        return {"model_type": self.model_type, "fields": dataclasses.asdict(cfg)}

    def to_params(self, cfg, tensors):
        return unflatten_dict(tensors, sep="/")

    def to_tensors(self, cfg, params):
        return jax.tree.map(np.asarray, flatten_dict(params, sep="/"))


def test_its_name_map_is_registered_too(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "MAPS", dict(maps.MAPS))
    monkeypatch.setattr(interop.huggingface, "MAPS", maps.MAPS)
    interop.register(Map("mean", outside.FAMILY))
    run = load_run(trained[0])
    interop.save_huggingface(tmp_path / "model", run.params, run.config.model)
    source = interop.read_initial(str(tmp_path / "model"))
    assert source.model_name == "mean" and source.model == run.config.model
    jax.tree.map(np.testing.assert_array_equal, source.params, run.params)
    with pytest.raises(ValueError, match="model_type='bert' is taken"):
        interop.register(Map("bert", outside.FAMILY))
