"""Pre-train, then fine-tune: parameters taken over, held still, or moved slowly."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.reliability import tiny
from tests.workloads.text_runs import get_config, write_files
from tfm_jax.config import ConfigError, load_run
from tfm_jax.interop import read_initial, save_huggingface
from tfm_jax.interop.workdirs import write_run
from tfm_jax.layers.layout import to_scanned
from tfm_jax.optim import layerwise
from tfm_jax.optim.optimizers import Config, make_optimizer
from tfm_jax.runs import initial, saved, sources
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop

pytestmark = pytest.mark.usefixtures("compiled_once")

FEW = dict(total_steps=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(files, tmp_path_factory):
    """Workdir of a BERT that has filled in words."""
    workdir = tmp_path_factory.mktemp("pretrained")
    loop.train(get_config("masked_lm", "bert", "masked_lm", files, train=FEW), workdir)
    return workdir


@pytest.fixture(scope="module")
def finetuned(files, pretrained, tmp_path_factory):
    """Workdir of a classifier that began there, and of which only the head moved."""
    workdir = tmp_path_factory.mktemp("finetuned")
    config = get_config(
        "classify", "bert", "classify", files, labels=4, train=FEW,
        init_from=str(pretrained), freeze="^encoder/",
    )  # fmt: skip
    config.tokenizer.vocab = 60  # what it would train is not what it takes over
    loop.train(config, workdir)
    return workdir


def flat(workdir):
    return flatten_dict(saved.load(workdir).params, sep="/")


def test_the_report_accounts_for_every_parameter(pretrained, finetuned):
    report = json.loads((finetuned / "init_from.json").read_text())
    before, after = flat(pretrained), flat(finetuned)
    assert sorted(report["loaded"] + report["new"]) == sorted(after)
    assert sorted(report["loaded"] + report["unused"]) == sorted(before)
    assert set(report["loaded"]) == {p for p in after if p.startswith("encoder/")}
    assert {path.split("/")[1] for path in report["unused"]} == {"lm"}
    tokenizers = [(w / "tokenizer.json").read_bytes() for w in (pretrained, finetuned)]
    assert tokenizers[0] == tokenizers[1]


def test_what_is_frozen_does_not_move_and_has_no_optimizer_state(
    pretrained, finetuned, files
):
    before, after = flat(pretrained), flat(finetuned)
    for path, x in after.items():
        if path.startswith("encoder/"):
            np.testing.assert_array_equal(x, before[path])
    params = saved.load(finetuned).params
    state = make_optimizer(Config(), 10, freeze="^encoder/").init(params)
    counts = {path.split("/")[0]: 0 for path in after}
    for path, x in after.items():
        counts[path.split("/")[0]] += x.size
    kept = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    assert kept == 2 * counts["head"], "two moments of the head, nothing else"


def test_a_stopped_fine_tuning_goes_on_without_its_source(
    pretrained, files, tmp_path, capsys
):
    """Nor need its sizes be typed again: what is not set is as the source has it."""
    source = tmp_path / "source"
    source.symlink_to(pretrained)
    whole, cut = (
        get_config(
            "classify", "bert", "classify", files, labels=4, init_from=str(source),
            train=dict(total_steps=6), **sizes,
        )
        for sizes in ({}, dict(depth=2, max_length=12))
    )  # fmt: skip
    assert tiny.run(tmp_path / "whole", whole)
    assert "architecture is taken" not in capsys.readouterr().out
    given = {"train.total_steps", "model.width"}
    assert not tiny.run(tmp_path / "cut", cut, stop=(3,), given=given)
    said = f"init_from={source}: its architecture is taken: "
    assert (
        f"{said}model.max_length=48 (12 here), model.depth=1 (2 here)\n"
        in capsys.readouterr().out
    )
    source.unlink()
    assert tiny.run(tmp_path / "cut", cut, given=given)
    assert tiny.digests(tmp_path / "cut") == tiny.digests(tmp_path / "whole")
    assert load_run(tmp_path / "cut") == load_run(tmp_path / "whole")


def test_an_imported_model_is_trained_on_by_the_same_command(
    pretrained, files, tmp_path
):
    """It lies in the workdir as a run that made no step, with sizes of its own."""
    run, workdir = saved.load(pretrained), tmp_path / "imported"
    write_run(workdir, run.experiment, run.tokenizer, run.params, {})
    config = get_config("masked_lm", "bert", "masked_lm", files, train=FEW, depth=2)
    assert not tiny.run(workdir, config, stop=(1,), given=())
    assert tiny.run(workdir, config, given=())
    assert load_run(workdir).init_from == str(workdir / "checkpoints" / "000000")


def test_what_is_set_is_not_taken_and_what_is_taken_has_to_fit(pretrained, files):
    source = sources.read(str(pretrained))

    def adopted(*given, data=None, **sizes):
        named = dict(init_from=str(pretrained), data=data)
        config = get_config("classify", "bert", "classify", files, **named, **sizes)
        return initial.adopt(resolve(config), source.model, given)

    made, taken = adopted("model.depth", depth=2, activation="relu", labels=3)
    assert taken == {"activation": ("relu", "gelu")}
    assert (made.model.labels, made.model.vocab, made.model.depth) == (3, 0, 2)
    with pytest.raises(ConfigError, match="model.depth=2, there 1; give both the same"):
        initial.check(made, source)
    assert adopted("model.dropout", dropout=0.5, layout="scanned")[1] == {}
    long = dict(max_length=64, data=dict(length=64))
    with pytest.raises(
        ConfigError, match="with the architecture of init_from=.*length=48 is"
    ):
        adopted(**long)


def test_a_folder_of_transformers_is_a_source_too(pretrained, tmp_path):
    run = saved.load(pretrained)
    save_huggingface(tmp_path / "bert", run.params, run.experiment.model)
    found = read_initial(str(tmp_path / "bert"))
    assert found.model_name == "bert" and found.tokenizer is None
    with pytest.raises(ConfigError, match="no tokenizer that is read here.*kind=publ"):
        initial.check(run.experiment, found)  # another vocabulary would be trained
    named = dataclasses.replace(run.experiment.tokenizer, kind="published", file="t")
    initial.check(run.experiment._replace(tokenizer=named), found)
    ours = flatten_dict(run.params, sep="/")
    for path, x in flatten_dict(found.params, sep="/").items():
        np.testing.assert_array_equal(x, ours[path])
    run.tokenizer.save(tmp_path / "bert" / "tokenizer.json")
    again = read_initial(str(tmp_path / "bert"))
    deeper = dataclasses.replace(run.experiment.model, depth=3)
    taken = initial.adopt(run.experiment._replace(model=deeper), again.model, ())
    assert taken == (run.experiment, {"depth": (3, 1)})
    assert again.tokenizer.fingerprint == run.tokenizer.fingerprint


def test_another_model_is_refused_field_by_field(pretrained, files, tmp_path):
    changes = dict(labels=4, train=FEW, init_from=str(pretrained))
    config = get_config(
        "classify", "bert", "classify", files, **changes, activation="relu", depth=2
    )
    with pytest.raises(ConfigError, match="model.activation='relu', there 'gelu'") as e:
        loop.train(config, tmp_path / "a")
    assert "model.depth=2, there 1" in str(e.value)
    config = get_config("classify", "albert", "classify", files, **changes)
    with pytest.raises(ConfigError, match="holds model_name='bert', not 'albert'"):
        loop.train(config, tmp_path / "b")
    config.init_from = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="init_from='.*nowhere'"):
        loop.train(config, tmp_path / "c")


def test_a_head_is_no_start_for_its_labels_in_another_order(finetuned):
    source = sources.read(str(finetuned))
    assert source.labels == ("0", "1", "2", "3")
    initial.check_labels(source, ["0", "1", "2", "3"])
    initial.check_labels(source, ["0", "1", "2"])  # the head is new
    with pytest.raises(ConfigError, match="order 0,1,2,3, the data in 1,0,2,3; set da"):
        initial.check_labels(source, ["1", "0", "2", "3"])


def test_new_words_have_fresh_vectors_and_all_else_is_explained(pretrained):
    run = saved.load(pretrained)
    source = sources.read(str(pretrained))
    more = run.experiment._replace(
        model=type(run.experiment.model)(
            **{**vars(run.experiment.model), "vocab": source.model.vocab + 2}
        )
    )
    fresh = jax.tree.map(
        lambda x: np.full(
            (x.shape[0] + 2, *x.shape[1:]) if x.shape[:1] == (source.model.vocab,)
            else x.shape, 7.0, np.float32,
        ),
        run.params,
    )  # fmt: skip
    merged, report = initial.merge(more, source, fresh)
    table = merged["encoder"]["embedding"]["word"]["table"]
    there = run.params["encoder"]["embedding"]["word"]["table"]
    np.testing.assert_array_equal(table[:-2], there)
    assert (table[-2:] == 7.0).all()
    assert report.grown == ["encoder/embedding/word/table", "head/lm/bias"]
    assert not report.new and not report.unused
    scanned = more._replace(
        model=type(more.model)(**{**vars(more.model), "layout": "scanned"})
    )
    again, _ = initial.merge(scanned, source, to_scanned(fresh))
    assert set(again["encoder"]["stack"]) == {"layers"} | (
        set(merged["encoder"]["stack"]) - {"layer_0"}
    )
    del fresh["encoder"]["embedding"]["norm"]
    fresh["encoder"]["other"] = {"kernel": np.zeros(3)}
    with pytest.raises(ConfigError, match="encoder/other/kernel is new") as e:
        initial.merge(more, source, fresh)
    assert "encoder/embedding/norm/bias is unused" in str(e.value)


def tree():
    layer = {"kernel": jnp.ones((2, 2))}
    return {
        "encoder": {
            "embedding": {"word": {"table": jnp.ones((3, 2))}},
            "stack": {f"layer_{i}": {"ffn": layer} for i in range(3)},
        },
        "head": {"out": layer},
    }


OUTSIDE = dict(below=("encoder/embedding",), above=("head",))


def test_rates_fall_with_depth_as_published():
    """decay^(L + 2 - depth): embeddings at depth 0, the l-th layer at l, the head 1."""
    found = layerwise.factors(0.8, (), tree(), **OUTSIDE)
    stack = found["encoder"]["stack"]
    assert found["encoder"]["embedding"]["word"]["table"] == 0.8**5
    layers = [stack[f"layer_{i}"]["ffn"]["kernel"] for i in range(3)]
    np.testing.assert_allclose(layers, [0.8**4, 0.8**3, 0.8**2])
    assert found["head"]["out"]["kernel"] == 1.0
    scanned = layerwise.factors(0.8, (), to_scanned(tree()), **OUTSIDE)
    of_layers = scanned["encoder"]["stack"]["layers"]["ffn"]["kernel"]
    np.testing.assert_allclose(of_layers.ravel(), layers, rtol=1e-6)


def test_updates_are_scaled_and_a_rate_of_nothing_is_no_step():
    cfg = dict(optimizer="sgd", b1=0.0, schedule="constant", peak_lr=1.0)
    cfg |= dict(warmup_steps=0)
    optimizer = make_optimizer(
        Config(**cfg, layer_decay=0.5, lr_multipliers=("layer_1=0", "head=3")),
        10,
        **OUTSIDE,
    )
    params = tree()
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    stack = updates["encoder"]["stack"]
    assert (stack["layer_1"]["ffn"]["kernel"] == 0.0).all()
    assert (stack["layer_2"]["ffn"]["kernel"] == -0.25).all()
    assert (updates["head"]["out"]["kernel"] == -3.0).all()
    halved = Config(**cfg, layer_decay=0.5)
    optimizer = make_optimizer(halved, 10, freeze="layer_2", **OUTSIDE)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    stack = updates["encoder"]["stack"]  # the third layer is still there
    assert (stack["layer_2"]["ffn"]["kernel"] == 0.0).all()
    assert (stack["layer_1"]["ffn"]["kernel"] == -0.125).all()
    optimizer = make_optimizer(Config(**cfg), 10)
    plain, _ = optimizer.update(grads, optimizer.init(params), params)
    assert all((x == -1.0).all() for x in jax.tree.leaves(plain))


@pytest.mark.parametrize("entry", ["no factor", "(=1", "head=-1", "=2", "head=nan"])
def test_rates_that_are_none_are_refused(entry):
    with pytest.raises(
        ValueError, match="optim.lr_multipliers=.*expected REGEX=FACTOR"
    ):
        Config(lr_multipliers=(entry,))


@pytest.mark.parametrize("pattern, which", [("nothing", "none"), ("e", "every")])
def test_freezing_all_or_nothing_is_a_mistake(pattern, which):
    with pytest.raises(ConfigError, match=f"matches {which}"):
        layerwise.frozen(pattern, tree())
