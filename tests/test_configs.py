"""Every configuration, at every size it offers, is a run that could start."""

import dataclasses
import functools
import importlib
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from tests import make_snapshots
from tests.make_snapshots import FILES, sizes
from tfm_jax import config as configs
from tfm_jax import renamed
from tfm_jax.models import MODELS
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import resolve

FOLDER = Path(__file__).parents[1] / "configs"
OLD = sorted(Path(__file__).with_name("golden").glob("*/configs/*.json"))


class Vocabularies:
    """What a tokenizer tells of itself."""

    def __init__(self, size):
        self.source_vocab = self.target_vocab = self.vocab = size


def one_layer(cfg):
    """Changes of ``cfg`` with which one layer is traced for all, where that can be."""
    (layout,) = (f for f in dataclasses.fields(cfg) if f.name == "layout")
    # ALBERT's layers, which share parameters, cannot be scanned
    shares = getattr(cfg, "share", "none") not in ("none", "tokens")
    if "scanned" in layout.metadata["choices"] and not shares:
        return {"layout": "scanned"}
    return {"layout": "unrolled"} | ({"depth": 1} if hasattr(cfg, "depth") else {})


@functools.cache  # many sizes differ in their data alone
def parameters(model, example):
    """How many numbers ``model`` learns."""
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), example()))
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("file", FILES)
def test_every_size_of_a_config_may_start_and_its_model_has_a_shape(file, tmp_path):
    for size in ("", *sizes(file)):
        spec = f"{FOLDER / file}:{size}" if size else str(FOLDER / file)
        experiment = resolve(configs.load(spec))
        new_runs.check(experiment, tmp_path)
        vocab = experiment.tokenizer.vocab if experiment.tokenizer else 0
        experiment = experiment.complete(Vocabularies(vocab))
        model = experiment.build_model(**one_layer(experiment.model))
        assert parameters(model, experiment.workload.objective.example) > vocab


def test_a_changed_default_of_a_config_shows_in_its_snapshot():
    stored = {path.stem + ".py": path for path in make_snapshots.FOLDER.iterdir()}
    for file in FILES:
        assert stored[file].read_text() == make_snapshots.text(
            make_snapshots.resolved(file)
        ), "if this is meant to be so: python -m tests.make_snapshots"
    assert stored.keys() == {*FILES}


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_configuration_of_an_earlier_release_means_what_it_meant(path):
    for size, before in make_snapshots.read(path).items():
        tuples = {n: tuple(x) if type(x) is list else x for n, x in before.items()}
        config = configs.override(ConfigDict(), tuples)
        now = make_snapshots.knobs(renamed.former(resolve(config).as_dict()))
        assert {knob: now[knob] for knob in before} == before, size


@pytest.mark.parametrize("file", FILES)
def test_a_config_survives_its_json(file):
    config = configs.load(str(FOLDER / file))
    again = configs.from_json(configs.to_json(resolve(config).as_dict()))
    assert resolve(again) == resolve(config)


@pytest.mark.parametrize("file", FILES)
def test_a_config_from_before_a_knob_existed_means_its_default(file):
    config = configs.load(str(FOLDER / file)).to_dict()
    whole = resolve(config)
    defaults = {"model": "remat", "data": "prefetch", "train": "skip_limit"}
    for section, knob in defaults.items():
        assert config[section].pop(knob) == getattr(
            type(getattr(whole, section))(), knob
        )
    assert resolve(config) == whole


@pytest.mark.parametrize("file", FILES)
def test_a_config_says_how_to_run_it_and_names_itself(file):
    text = (FOLDER / file).read_text()
    docstring = text.split('"""')[1]
    assert re.search(r"^Run +python -m tfm_jax\.main", docstring, re.M)
    assert f"configs/{file}" in docstring


def test_a_config_is_found_by_name_and_by_its_old_path_from_anywhere(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    wanted = configs.load(f"{FOLDER}/gpt1.py:tiny")
    assert configs.load("gpt1:tiny") == configs.load("configs/gpt1.py:tiny") == wanted
    with pytest.raises(configs.ConfigError, match="no such file"):
        configs.load("elsewhere/gpt1.py")


def test_the_file_at_a_path_is_taken_before_one_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs", "gpt1.py")
    own.parent.mkdir()
    own.write_text((FOLDER / "sst2.py").read_text())
    assert configs.load("configs/gpt1.py").task == "classify"
    assert configs.load("gpt1").task == "causal_lm"


@pytest.mark.parametrize("file", FILES)
def test_a_size_that_a_config_does_not_have_is_refused(file):
    with pytest.raises(configs.ConfigError, match="has no size 'none'; choose from"):
        configs.load(f"{FOLDER / file}:none")


def test_sizes_are_named_where_there_is_no_such():
    with pytest.raises(
        configs.ConfigError, match=r"no size 'tiny'; choose from \(bert_"
    ):
        configs.load("configs/sst2.py:tiny")


@pytest.mark.parametrize("file", FILES)
def test_a_config_has_no_hidden_knobs(file):
    text = (FOLDER / file).read_text()
    assert ".get(" not in text and "from configs" not in text
    assert not re.search(r"=\s*None\b", text)


def test_every_model_of_the_registry_offers_what_the_rest_of_the_code_asks_for():
    for name, family in MODELS.items():
        module = importlib.import_module(f"tfm_jax.models.{name}")
        assert family is module.FAMILY and family.name == name
        assert family[1:4] == (module.Config, module.Model, module.SIZES)
