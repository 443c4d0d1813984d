"""A knob that another one ignores: the tables say which, and they are right."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.denoisers import batch_of
from tests.models import tiny_conv, tiny_images, tiny_pairs
from tests.models.tiny_text import NARROW
from tests.reliability.tiny import get_config
from tests.test_knobs import OPTIM
from tests.traced import traced
from tfm_jax import main
from tfm_jax.config import Above, ConfigError, readers_of, to_json
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.data.rows import (
    causal,
    image_text,
    images,
    labelled,
    masked,
    pairs,
    spans,
    tagged,
)
from tfm_jax.data.tokenizers import bilingual, vocabularies
from tfm_jax.knobs import sections_of
from tfm_jax.layers.arch import Arch, TextArch
from tfm_jax.layers.images.patches import ImageArch
from tfm_jax.layers.recurrent.arch import RecurrentArch
from tfm_jax.layers.text.encoder import EncoderArch
from tfm_jax.models import MODELS
from tfm_jax.objectives import translation
from tfm_jax.optim import optimizers, plateau
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.runs.storage import checkpoint
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import knob_types, resolve
from tfm_jax.settings.new_runs import (
    across_sections,
    check,
    check_read,
)
from tfm_jax.settings.sections import TrainConfig
from tfm_jax.train import loop, population
from tfm_jax.workloads import WORKLOADS

SECTIONS = [family.config for family in MODELS.values()]
SECTIONS += [optimizers.Config, checkpoint.Config, bilingual.Config]
SECTIONS += [vocabularies.Config, TrainConfig]
ROWS = (causal, masked, labelled, tagged, spans, pairs, images, image_text)
SECTIONS += [module.Config for module in ROWS]


def fields_of(section, prefix=""):
    """Dotted knob -> its field."""
    fields = {prefix + field.name: field for field in dataclasses.fields(section)}
    for name, inner in sections_of(section).items():
        fields |= fields_of(inner, f"{prefix}{name}.")
    return fields


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: f"{cls.__module__[8:]}")
def test_the_tables_name_knobs_and_choices_that_there_are(cls):
    section = cls if isinstance(cls, type) else type(cls)
    fields = fields_of(section)
    for reader in readers_of(section):
        assert reader.knob in fields
        choices = fields[reader.other].metadata.get("choices")
        if choices:
            assert set(reader.readers) < set(choices), "all of them read it"
            assert reader.readers, "no choice reads it"


def test_the_table_across_sections_names_knobs_that_there_are():
    knobs = knob_types("transformer", "translation")
    readers = list(across_sections())
    assert {reader.other for reader in readers} == {"task"}
    assert {reader.knob for reader in readers} <= knobs.keys()


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_optimizer_reads_exactly_the_knobs_that_change_its_update(name):
    params = {"layer_0": {key: jnp.ones((2, 2)) for key in ("kernel", "bias")}}
    base = optimizers.Config(optimizer=name)

    @functools.cache
    def program(cfg):
        optimizer = optimizers.make_optimizer(cfg, 100)
        state = jax.eval_shape(optimizer.init, params)
        return traced((optimizer.update, (params, state, params)))

    readers = {
        r.knob: r for r in readers_of(optimizers.Config) if r.other == "optimizer"
    }
    for knob in ("b1", "b2", "eps"):
        changed = dataclasses.replace(base, **{knob: OPTIM[knob]})
        differs = program(changed) != program(base)
        assert differs == (name in readers[knob].readers), knob


@pytest.mark.parametrize("name", optimizers.SCHEDULES)
def test_a_schedule_reads_exactly_the_knobs_that_change_its_rate(name):
    """At step 8000 of 9000; of a plateau once an evaluation was no better."""
    other = dict(final_lr_fraction=0.5, cut_factor=0.3, cut_after_steps=6_000)
    other |= dict(cut_every_steps=500, cut_patience=2)
    base = optimizers.Config(
        schedule=name, cut_after_steps=5_000, cut_every_steps=1_000
    )

    def rate(cfg):
        scheduled = optimizers.make_schedule(cfg, total_steps=9_000)(8_000)
        if not SCHEDULES[name].watches:
            return scheduled
        state = plateau.start()
        for step in (1, 2):
            state = plateau.observe(cfg, state, step, 1.0)
        return scheduled * state.factor

    readers = {
        r.knob: r for r in readers_of(optimizers.Config) if r.other == "schedule"
    }
    assert readers.keys() == other.keys()
    for knob, value in other.items():
        differs = rate(dataclasses.replace(base, **{knob: value})) != rate(base)
        assert differs == (name in readers[knob].readers), knob


TINY = dict(width=8, heads=2, ffn_width=12, dropout=0.0, attention_dropout=0.0)
TINY |= dict(source_vocab=11, target_vocab=11, encoder_depth=1, decoder_depth=1)
TINY |= dict(embedding_width=8)
OTHER = {  # another value of a knob that some choice ignores
    **dict(embed_width=4, temperature=0.5, generation_mask="full"),
    "max_length": 20,
    "norm_kind": "rmsnorm",
    "norm_eps": 1e-2,
    "labels": 3,
    "head_dropout": 0.3,
    "pool": "mean",
    "groups": 2,
    "embedding_dropout_on": "tables",
    "source_order": "reversed",
    "alignment_width": 3,
    "query": "current",
    "context": "every_step",
    "readout_width": 3,
    "dropout_mask": "variational",
    "forget_bias": 2.0,
    "position_resize": "bilinear",
    "representation_width": 3,
    "heads": 4,
    "label_dropout": 0.5,
    "conditioning": "cross_attention",
    "transformer_depth": 2,
}
DENOISERS = {
    "dit": dict(image_size=(4,), patch_size=(2,), channels=2),
    "unet": dict(image_size=(4,), multipliers=(1,), groups=4, channels=2)
    | dict(attention_block="transformer"),
}
OF_FAMILY = DENOISERS | {
    "conv_seq2seq": tiny_conv.NARROW,
    "qformer": tiny_pairs.SIZES
    | dict(text=dataclasses.replace(tiny_pairs.SIZES["text"], depth=1)),
    "vit": tiny_images.TINY | dict(depth=1),
}


FAMILIES = {  # whose ``READ_WITH`` is tried -> the family it is tried with
    **dict.fromkeys((Arch, TextArch), "gpt"),
    EncoderArch: "bert",
    ImageArch: "vit",
    RecurrentArch: "rnn_seq2seq",
    **{family.config: name for name, family in MODELS.items()},
}
CASES = [
    (cls, other, readers, knobs)
    for cls in FAMILIES
    for (other, readers), knobs in vars(cls).get("READ_WITH", {}).items()
]


@functools.cache
def _program(name, cfg):
    rows = np.ones((2, 4), np.int32)
    if name == "vit":
        batch = tiny_images.images()
    elif name == "qformer":
        batch = tiny_pairs.pairs()
    elif name in DENOISERS:
        batch = batch_of((2, 4, 4), cfg)
    elif "translation" in MODELS[name].learns:
        batch = jax.tree.map(lambda x: rows, translation.example())
    else:
        batch = MaskedBatch(
            *(rows, rows, None, rows), labels=rows[:, :2],
            weights=np.ones((2, 2), np.float32),
            target_positions=None if name == "gpt" else rows[:, :2],
        )  # fmt: skip
    model = MODELS[name].model(cfg)

    def init_and_apply(key):
        rngs = dict.fromkeys(("params", "dropout", "noise"), key)
        return model.init_with_output(rngs, batch, train=True)

    return traced((init_and_apply, (jax.random.key(0),)))


@pytest.mark.parametrize(
    "cls, other, readers, knobs",
    CASES,
    ids=lambda x: x.__module__.rpartition(".")[2] if isinstance(x, type) else str(x),
)
def test_a_model_ignores_what_the_table_says_it_ignores(cls, other, readers, knobs):
    name = FAMILIES[cls]
    config = MODELS[name].config
    (field,) = (f for f in dataclasses.fields(config) if f.name == other)
    numbers = dict(bool=(False, True), int=(0, 4), float=(0.0, 0.5))
    choices = field.metadata.get("choices", numbers.get(field.type.__name__))
    sizes = TINY | dict(depth=1 + (name == "albert"), vocab=11) | NARROW.get(name, {})
    sizes |= OF_FAMILY.get(name, {})
    names = {field.name for field in dataclasses.fields(config)}
    sizes = {name: value for name, value in sizes.items() if name in names}
    silent = next(choice for choice in choices if choice not in readers)
    base = config(**sizes | {other: silent})
    changed = dataclasses.replace(base, **{knob: OTHER[knob] for knob in knobs})
    assert changed != base
    assert _program(name, base) == _program(name, changed)


def test_what_is_set_for_nothing_is_refused_by_both_names():
    config = get_config(data__train_files=("a.tsv",))
    message = (
        r"data.train_files=\('a.tsv',\) has no effect with data.source='numerals'; "
        r"take it back, or choose data.source from \(parallel\)"
    )
    with pytest.raises(ConfigError, match=message):
        check_read(resolve(config), ())
    check_read(resolve(get_config()), ())


def test_a_workload_of_somebody_elses_says_whether_samples_are_drawn(monkeypatch):
    gpt, causal_lm = MODELS["gpt"], WORKLOADS["causal_lm"]
    learns = {**gpt.learns, "mine": gpt.learns["causal_lm"]}
    monkeypatch.setitem(MODELS, "gpt", gpt._replace(learns=learns))
    monkeypatch.setitem(WORKLOADS, "mine", causal_lm._replace(name="mine"))
    made = resolve(configure("gpt", "mine", eval=dict(samples=0)))
    check_read(made, ("eval.samples",))
    silent = causal_lm._replace(name="mine", samples_by=())
    monkeypatch.setitem(WORKLOADS, "mine", silent)
    with pytest.raises(ConfigError, match="eval.samples=0 has no effect with task="):
        check_read(made, ("eval.samples",))


PUBLISHED = {  # recipes of recurrent and convolutional sequence-to-sequence models
    "Bahdanau et al. 2015": dict(
        optim__optimizer="adadelta", optim__b2=0.95, optim__eps=1e-6,
        optim__schedule="constant", optim__peak_lr=1.0, optim__warmup_steps=0,
        optim__clip_norm=1.0,
    ),
    "Luong et al. 2015": dict(
        optim__optimizer="sgd", optim__b1=0.0, optim__schedule="step_decay",
        optim__peak_lr=1.0, optim__warmup_steps=0, optim__clip_norm=5.0,
        optim__cut_after_steps=5_000, optim__cut_every_steps=1_000,
    ),
    "Gehring et al. 2017": dict(
        optim__optimizer="nesterov", optim__b1=0.99, optim__schedule="plateau",
        optim__peak_lr=0.25, optim__warmup_steps=0, optim__clip_norm=0.1,
        optim__cut_factor=0.1, train__stop_patience=4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("paper", PUBLISHED)
def test_a_published_recipe_sets_nothing_for_nothing(paper, tmp_path):
    check(resolve(get_config(**PUBLISHED[paper])), tmp_path)


def test_one_flag_is_one_ablation():
    """What the configuration says for its own optimizer does not stand in the way."""
    made = resolve(get_config(optim__optimizer="sgd", optim__eps=1e-6))
    check_read(made, ("optim.optimizer",))
    with pytest.raises(ConfigError, match="optim.eps=1e-06 has no effect with"):
        check_read(made, ("optim.optimizer", "optim.eps"))
    with pytest.raises(ConfigError, match="optim.eps=1e-06 has no effect with"):
        check_read(made, ())
    check_read(made, (), whole=False)


def test_nothing_is_said_of_a_run_that_has_begun(tmp_path):
    """A run from before this was refused goes on, and is evaluated."""
    config = get_config(data__train_files=("a.tsv",))
    with pytest.raises(ConfigError, match="data.train_files"):
        check(resolve(config), tmp_path)
    (tmp_path / "config.json").write_text(to_json(config))
    check(resolve(config), tmp_path)
    values, knobs = main.parse([f"--workdir={tmp_path}"])
    main.check_given(values, knobs, config)
    values, knobs = main.parse([f"--workdir={tmp_path}", "--config.eval.beam=1"])
    main.check_given(values, knobs, config)
    values, knobs = main.parse(
        [f"--workdir={tmp_path}", "--config.data.valid_files=b.tsv"]
    )
    with pytest.raises(ConfigError, match="data.valid_files"):
        main.check_given(values, knobs, main.load_config(values, knobs))


@pytest.mark.parametrize("given", [(), ("data.train_files",)])
def test_what_is_set_for_nothing_is_refused_in_python_too(given, tmp_path):
    """Before anything is written, and in a population as well."""
    config = get_config(data__train_files=("a.tsv",))
    with pytest.raises(ConfigError, match="data.train_files=.*has no effect"):
        loop.train(config, tmp_path / "run", given=given)
    with pytest.raises(ConfigError, match="data.train_files=.*has no effect"):
        population.train([config], [tmp_path / "run"], given=given)
    assert not list(tmp_path.iterdir())


def test_a_bound_says_itself():
    assert 0.1 in Above(0) and 0 not in Above(0) and str(Above(0)) == "above 0"
