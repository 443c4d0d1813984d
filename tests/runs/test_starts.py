"""A model of several parts starts from a run for each of them."""

import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models import outside, towers
from tfm_jax import models
from tfm_jax.config import ConfigError, replaced
from tfm_jax.runs import initial, named_data, sources
from tfm_jax.settings import starts
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.assemble import beginning

VOCAB = 5


@pytest.fixture(scope="module", autouse=True)
def known():
    for module in (outside, towers):
        models.register(module.FAMILY)
    yield
    for module in (outside, towers):
        models.MODELS.pop(module.FAMILY.name)


def test_parts_are_named_between_commas_and_a_plain_path_is_the_whole():
    parts = ("lm", "vision")
    assert starts.sources("", parts) == {}
    assert starts.sources("runs/a=b,c", parts) == {"": "runs/a=b,c"}
    assert starts.sources("lm=a,b", ()) == {"": "lm=a,b"}, "it has no parts"
    assert starts.sources("vision=runs/v, lm=runs/a=b", parts) == {
        "vision": "runs/v",
        "lm": "runs/a=b",
    }
    assert starts.sources("'lm=a,b',vision=c", parts) == {"lm": "a,b", "vision": "c"}


@pytest.mark.parametrize(
    "init_from, message",
    [
        ("ml=a", r"init_from=ml=a: part='ml'; choose from \(lm, vision\)"),
        ("lm=a,runs/v", "part='runs/v'; choose from"),
        ("lm=,vision=a", "lm names no run; write lm=PATH once"),
        ("lm=a,lm=b", "lm is named twice; write lm=PATH once"),
    ],
)
def test_what_names_no_part_is_refused(init_from, message):
    with pytest.raises(ConfigError, match=message):
        starts.sources(init_from, ("lm", "vision"))


def test_the_home_of_the_user_is_spelled_out_in_each_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    built = resolve(towers.get_config(tmp_path, init_from="lm=~/a,other=~/b"))
    assert built.init_from == "lm=/home/me/a,other=/home/me/b"
    whole = resolve(towers.get_config(tmp_path, init_from="~/a"))
    assert whole.sources == {"": "/home/me/a"}


def shapes(cfg, vocab):
    """Path -> shape of the parameters of ``outside.Mean``."""
    layers = {f"layer_{i}/kernel": (cfg.width, cfg.width) for i in range(cfg.depth)}
    layers |= {f"layer_{i}/bias": (cfg.width,) for i in range(cfg.depth)}
    ends = {
        "embedding/embedding": (vocab, cfg.width),
        "output/kernel": (cfg.width, vocab),
    }
    return layers | ends


def source(value, *, vocab=VOCAB, tokenizer=None, **fields):
    """A run of ``outside`` whose parameters all are ``value``."""
    cfg = outside.Config(vocab=vocab, **fields)
    params = {k: np.full(x, value, np.float32) for k, x in shapes(cfg, vocab).items()}
    nested = unflatten_dict(params, sep="/")
    return sources.Source(f"runs/{value}", "mean", cfg, nested, tokenizer)


@pytest.fixture
def begun(tmp_path):
    """Function: sources of parts -> (experiment, what it starts from)."""

    def begin(given=(), model=(), **parts):
        text = ",".join(f"{name}={part.path}" for name, part in parts.items())
        there = {part.path: part for part in parts.values()}
        built = resolve(towers.get_config(tmp_path, init_from=text))
        built = built._replace(model=replaced(built.model, dict(model)))
        whole = sources.read_all(built, there.__getitem__)
        return initial.adopt(built, whole.model, given)[0], whole

    return begin


def fresh(experiment, vocab=VOCAB):
    """Parameters of ``towers.Towers``, all of them 0."""
    params = {"tail/kernel": (vocab, vocab), "tail/bias": (vocab,)}
    for part in towers.PARTS:
        of_part = shapes(getattr(experiment.model, part), vocab).items()
        params |= {f"{part}/{k}": x for k, x in of_part}
    params = {k: np.zeros(x, np.float32) for k, x in params.items()}
    return unflatten_dict(params, sep="/")


def test_every_part_has_the_architecture_and_the_parameters_of_its_own_run(begun):
    experiment, whole = begun(lm=source(1.0, depth=2), other=source(2.0, width=6))
    initial.check(experiment._replace(tokenizer=None), whole)
    assert (experiment.model.lm.depth, experiment.model.other.width) == (2, 6)
    merged, report = initial.merge(experiment, whole, fresh(experiment))
    for path, x in flatten_dict(merged, sep="/").items():
        assert (x == {"lm": 1.0, "other": 2.0, "tail": 0.0}[path.split("/")[0]]).all()
    assert report.new == ["tail/kernel", "tail/bias"] and not report.unused
    assert report.parts == {"lm": 6, "other": 4} and len(report.loaded) == 10
    assert "6 of lm, 4 of other" in str(report)
    assert json.loads(json.dumps(report._asdict()))["parts"] == report.parts


def test_a_part_that_nothing_is_named_for_stays_fresh(begun):
    experiment, whole = begun(other=source(2.0))
    merged, report = initial.merge(experiment, whole, fresh(experiment))
    assert {p.split("/")[0] for p in report.new} == {"lm", "tail"}
    assert (merged["other"]["embedding"]["embedding"] == 2.0).all()


def test_what_its_own_run_lacks_of_a_part_is_a_mistake(begun):
    experiment, whole = begun(lm=source(1.0))
    del whole.parts["lm"].params["layer_0"]["bias"]
    whole.parts["lm"].params["other"] = {"kernel": np.zeros(2)}
    with pytest.raises(ConfigError, match="lm/layer_0/bias is new") as error:
        initial.merge(experiment, whole, fresh(experiment))
    assert "lm/other/kernel is unused" in str(error.value)
    del whole.parts["lm"].params["output"], whole.parts["lm"].params["other"]
    whole.parts["lm"].params["layer_0"]["bias"] = np.zeros(8)
    with pytest.raises(ConfigError, match="lm/output/kernel is new"):
        initial.merge(experiment, whole, fresh(experiment))


def test_a_larger_vocabulary_has_fresh_vectors(begun):
    experiment, whole = begun(lm=source(1.0), model={"lm.bias": False})
    assert experiment.complete(start=whole.model).model.vocab == VOCAB
    model = replaced(experiment.model, {"vocab": VOCAB + 2})
    experiment, wider = experiment._replace(model=model), fresh(experiment, VOCAB + 2)
    wider["lm"]["output"]["kernel"] = np.zeros((8, VOCAB))
    merged, report = initial.merge(experiment, whole, wider)
    assert report.grown == ["lm/embedding/embedding"]
    assert merged["lm"]["embedding"]["embedding"].sum(1).tolist() == [8] * VOCAB + [
        0,
        0,
    ]


def test_a_part_starts_from_certain_families_alone(begun):
    wrong = source(1.0)._replace(model_name="gpt")
    message = (
        r"init_from=lm=runs/1.0 holds model_name='gpt'; lm starts from \('mean',\)"
    )
    with pytest.raises(ConfigError, match=message):
        begun(lm=wrong)


def test_a_run_of_a_part_that_stands_for_the_whole_is_told_its_name(tmp_path):
    built = resolve(towers.get_config(tmp_path, init_from="runs/1.0"))
    message = (
        "holds model_name='mean', not 'towers'; "
        "init_from=lm=runs/1.0 is for its lm; init_from=other=runs/1.0 is for its other"
    )
    with pytest.raises(ConfigError, match=message):
        initial.check(built, sources.read_all(built, lambda _: source(1.0)))


@pytest.mark.parametrize(
    "freeze, init_from, untaught",
    [
        ("lm", "", "lm"),
        ("lm,other", "lm=a", "other"),
        ("lm", "other=a", "lm"),
        ("lm", "lm=a,other=b", ""),
        ("lm,other", "a", ""),  # a run of the whole
        ("^lm/", "", ""),  # an expression holds whatever it matches
    ],
)
def test_a_part_is_not_held_still_as_it_is_drawn(freeze, init_from, untaught, tmp_path):
    built = resolve(towers.get_config(tmp_path, freeze=freeze, init_from=init_from))
    if not untaught:
        sources.check_frozen(built)
        return
    message = f"freeze={freeze}: {untaught} would stay.* init_from={untaught}=PATH, or"
    with pytest.raises(ConfigError, match=message):
        beginning(built, None, sources.read)


def test_what_is_set_and_differs_is_refused_by_its_whole_path(begun):
    experiment, whole = begun(given=("model.lm.depth",), lm=source(1.0, depth=2))
    with pytest.raises(ConfigError, match="model.lm.depth=1, there 2; give both"):
        initial.check(experiment._replace(tokenizer=None), whole)


def test_the_tokenizer_is_that_of_the_first_part_that_has_one(begun):
    both = dict(other=source(2.0, tokenizer="second"), lm=source(1.0, tokenizer="one"))
    assert begun(**both)[1].tokenizer == "one", "in the order of the family"
    both["lm"] = source(1.0)
    assert begun(**both)[1].tokenizer == "second"
    experiment, whole = begun(lm=source(1.0)._replace(without="none in runs/1.0"))
    with pytest.raises(ConfigError, match="kind=published, .*none in runs/1.0"):
        initial.check(experiment, whole)


def test_the_run_that_is_none_is_named_with_its_part(tmp_path):
    built = resolve(towers.get_config(tmp_path, init_from=f"lm={tmp_path}/nowhere"))
    with pytest.raises(ConfigError, match="^lm of init_from: init_from='.*nowhere'"):
        sources.read_all(built)


def test_the_runs_of_parts_are_files_that_a_run_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = resolve(towers.get_config(tmp_path, init_from="lm=a,other=b"))
    given = ("data.train_files", "data.valid_files")
    with pytest.raises(
        ConfigError, match="^init_from='lm=a,other=b' is named by the r"
    ):
        named_data.check(built, given, tmp_path)
    named_data.remember(built)
    named_data.check(built, (), tmp_path)
