"""Every field of every Config is live: a knob that does nothing fails here."""

import ast
import collections
import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reliability.tiny import get_config
from tests.traced import Vocabulary, traced
from tests.train.test_run_knobs import EVAL, RUN, STREAM
from tfm_jax.config import readers_of, role_of
from tfm_jax.data.rows import pairs
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.knobs import ROLES
from tfm_jax.layers.layout import init_params
from tfm_jax.models.transformer import Config as ModelConfig
from tfm_jax.models.transformer import Transformer
from tfm_jax.objectives import translation
from tfm_jax.ops.attention import IMPLEMENTATIONS
from tfm_jax.optim import plateau
from tfm_jax.optim.optimizers import Config as OptimConfig
from tfm_jax.optim.optimizers import make_optimizer, make_schedule
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.settings.experiment import Experiment, resolve
from tfm_jax.train import program

ROOT = Path(__file__).resolve().parents[1]

# A knob's other value, or its value with the companions that bring it to life.
# Knobs with choices are listed by their table: every choice must differ from all
# others; here they have companions only, as switches, which are turned.
MODEL = {
    "width": 16,
    "heads": 4,
    "key_size": 6,
    "value_size": 6,
    "ffn_width": 10,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "norm_eps": 1e-3,
    "residual": {},
    "max_length": dict(max_length=20, positions="learned"),
    "dropout": 0.3,
    "attention_dropout": 0.3,
    "activation_dropout": 0.3,
    "windows": (2,),
    "embedding_scale": {},
    "output_bias": True,
    "loss_chunk": 1,
    "source_vocab": dict(source_vocab=13, tie="two_way"),
    "target_vocab": dict(target_vocab=13, tie="two_way"),
    **dict.fromkeys(
        ("norm", "norm_kind", "positions", "score", "mask_style", "activation"), {}
    ),
    **dict.fromkeys(("init", "dtype", "layout", "remat", "tie"), {}),
    **dict.fromkeys(("biases", "residual_init"), {}),
}
OPTIM = {
    "optimizer": {},
    "schedule": {},
    "decay": dict(optimizer="adamw", weight_decay=0.1),
    "peak_lr": 1e-2,
    "warmup_steps": 5,
    "final_lr_fraction": dict(final_lr_fraction=0.5, schedule="cosine"),
    "cut_factor": dict(cut_factor=0.3, schedule="step_decay"),
    "cut_after_steps": dict(cut_after_steps=50, schedule="step_decay"),
    "cut_every_steps": dict(cut_every_steps=10, schedule="step_decay"),
    "cut_patience": dict(cut_patience=3, schedule="plateau"),
    "b1": 0.5,
    "b2": 0.5,
    "eps": 1e-3,
    "weight_decay": dict(weight_decay=0.1, optimizer="adamw"),
    "clip_norm": 1.0,
    "layer_decay": 0.5,
    "lr_multipliers": ("kernel=0.5",),
}
# a choice that differs from the default only in company
ALONE = {("optimizer", "adamw"): dict(weight_decay=0.1)}
_DATA, _TFDS = "tests/data/rows/test_encoding.py", "tests/data/sources/test_tfds.py"
_PARALLEL, _MESH = "tests/data/sources/test_parallel.py", "tests/test_mesh.py"
_ENDS = "tests/train/test_ends.py"
_HERE = "tests/train/test_run_knobs.py"
_CHECKPOINTS = "tests/reliability/test_checkpoints.py"
_READ_TFDS = f"{_TFDS}::test_a_prepared_set_is_read_without_tensorflow"
_SPLITS = f"{_TFDS}::test_split_strings_slice_and_an_empty_one_is_absent"
_KEPT = f"{_CHECKPOINTS}::test_the_newest_and_the_best_are_kept"
_EIGHT = f"{_MESH}::test_every_device_holds_its_part_of_parameters_and_optimizer"
ELSEWHERE = {  # knob -> the test that would fail if it were dead
    "model.attention": "tests/test_knobs.py::test_the_attention_kernel_is_a_choice",
    "data.source": _READ_TFDS,
    "data.normalize": "tests/data/tokenizers/test_normalize.py::"
    "test_lowercase_is_part_of_exactly_the_names_that_say_so",
    **dict.fromkeys(
        ("data.heldout_words_least", "data.heldout_words_most"),
        "tests/data/sources/test_numerals.py::"
        "test_held_out_sources_have_as_many_words_as_are_asked_for",
    ),
    "data.mechanism": "tests/data/sources/test_mechanisms.py::"
    "test_every_knob_changes_what_there_is",
    "data.train_files": f"{_PARALLEL}::"
    "test_gzip_plain_and_tab_separated_files_give_the_same_pairs",
    "data.valid_files": f"{_HERE}::test_each_split_has_files_of_its_own",
    "data.test_files": f"{_HERE}::test_each_split_has_files_of_its_own",
    "data.invalid_utf8": f"{_PARALLEL}::"
    "test_invalid_utf8_is_an_error_with_its_place_unless_replaced",
    "data.tfds_name": f"{_TFDS}::test_what_is_missing_is_said_in_one_line",
    "data.tfds_data_dir": _READ_TFDS,
    "data.tfds_train": _SPLITS,
    "data.tfds_valid": f"{_HERE}::test_a_split_of_tfds_is_absent_if_its_name_is",
    "data.tfds_test": _SPLITS,
    "data.empty": f"{_DATA}::test_dropped_pairs_are_counted_and_never_shift_the_others",
    "data.overlong": f"{_DATA}::"
    "test_kept_overlong_pairs_are_cut_to_the_row_and_end_in_eos",
    # batches are the same with and without a thread
    "data.prefetch": "tests/data/rows/test_pairs.py::"
    "test_resuming_anywhere_gives_the_batches_that_were_to_come",
    "data.timeout_seconds": "tests/data/test_watchdog.py::"
    "test_data_that_comes_to_a_halt_ends_the_process_with_all_stacks",
    "train.extended_at": "tests/runs/test_use.py::"
    "test_a_schedule_that_ends_is_made_longer_on_an_explicit_act_alone",
    "train.auxiliary_weight": "tests/workloads/test_text_tasks.py::"
    "test_the_second_loss_is_weighed",
    "train.stop_patience": f"{_ENDS}::test_a_run_stops_early_once_and_for_all",
    "train.stop_metric": f"{_ENDS}::test_patience_counts_from_the_best_of_its_metric",
    "train.trackers": "tests/runs/test_trackers.py::"
    "test_a_tracker_that_is_not_there_is_refused_before_a_run",
    "train.max_hours": f"{_ENDS}::test_after_its_hours_a_run_is_saved_and_goes_on",
    "eval.variants": "tests/workloads/test_text_tasks.py::"
    "test_the_validation_text_is_read_in_other_ways_too",
    "eval.judge": "tests/workloads/test_denoise.py::"
    "test_what_is_drawn_is_judged_after_training_and_whenever_it_is_asked_for",
    "checkpoint.keep": _KEPT,
    "checkpoint.keep_best": _KEPT,
    "checkpoint.metric": _KEPT,
    "checkpoint.asynchronous": f"{_CHECKPOINTS}::"
    "test_a_synchronous_checkpointer_returns_after_the_commit",
    "checkpoint.verify": f"{_CHECKPOINTS}::test_an_unverified_restore_is_a_choice",
    "mesh.data": f"{_MESH}::test_the_rest_of_the_devices_goes_where_minus_one_stands",
    "mesh.fsdp": _EIGHT,
    "mesh.tensor": _EIGHT,
    "mesh.gradient_allreduce": f"{_MESH}::test_gradients_travel_as_one_array",
    "mesh.matmul_precision": f"{_MESH}::"
    "test_float32_products_are_as_exact_as_asked_forward_and_backward",
    "mesh.processes": "tests/reliability/test_two_processes.py::"
    "test_processes_that_nobody_started_are_missed_in_words",
    "mesh.cpu_devices": f"{_HERE}::test_cpu_devices_are_as_many_as_asked",
}


def knobs():
    """Every ``section.field`` of a configuration."""
    sections = resolve(get_config())._asdict()
    return {
        f"{name}.{field.name}"
        for name, cfg in sections.items()
        if dataclasses.is_dataclass(cfg)
        for field in dataclasses.fields(cfg)
    }


def test_every_knob_is_listed_once():
    listed = collections.Counter(
        [*(f"model.{name}" for name in MODEL), *(f"optim.{name}" for name in OPTIM)]
        + [*STREAM, *RUN, *(f"eval.{name}" for name in EVAL), *ELSEWHERE]
    )
    assert max(listed.values()) == 1
    assert knobs() - listed.keys() == set(), "say here what these knobs change"
    assert listed.keys() - knobs() == set(), "there are no such knobs"


IN_COMPANY = {  # alive in company alone, where a table has nothing to say
    "model.source_vocab": "both vocabularies are one unless model.tie says otherwise",
    "model.target_vocab": "both vocabularies are one unless model.tie says otherwise",
    "optim.weight_decay": "an optimizer without decay refuses it",
    "tokenizer.vocab": "a text has few characters",
    "data.numerals_joined": "more numbers need longer rows",
    "data.numerals_joined_heldout": "more numbers need longer rows",
}


def test_what_makes_a_knob_live_is_what_the_tables_say_reads_it():
    listed = {f"model.{name}": other for name, other in MODEL.items()}
    listed |= {f"optim.{name}": other for name, other in OPTIM.items()} | STREAM
    readers = [
        *readers_of(ModelConfig, "model."),
        *readers_of(OptimConfig, "optim."),
        *readers_of(pairs.Config, "data."),
        *readers_of(bilingual.Config, "tokenizer."),
    ]
    for knob, other in listed.items():
        section, _, name = knob.partition(".")
        company = set(other if isinstance(other, dict) else ()) - {name}
        if company and knob not in IN_COMPANY:
            said = {reader.other for reader in readers if reader.knob == knob}
            assert said & {f"{section}.{other}" for other in company}, knob


@pytest.mark.parametrize("knob", ELSEWHERE)
def test_a_knob_proved_elsewhere_is_named_there(knob):
    assert_named(knob.partition(".")[2], ELSEWHERE[knob])


def assert_named(knob, place):
    """A test of the name in ``place`` says something of ``knob``."""
    file, _, name = place.partition("::")
    text = (ROOT / file).read_text()
    functions = {n.name for n in ast.parse(text).body if hasattr(n, "name")}
    assert name in functions
    assert re.search(rf"\b{knob}\b", text)


def variants(base, name, other):
    """Configurations that differ in one knob alone, ``base`` with companions first."""
    field = base.__dataclass_fields__[name]
    others = other if isinstance(other, dict) else {name: other}
    first = dataclasses.replace(base, **{k: v for k, v in others.items() if k != name})
    now = getattr(first, name)
    turned = [not now] if isinstance(now, bool) else ()
    values = turned or field.metadata.get("choices") or [others[name]]
    found = [
        dataclasses.replace(first, **{name: v}, **ALONE.get((name, v), {}))
        for v in values
        if v != now
    ]
    return [first, *found]


def assert_live(base, listed, *programs_of):
    """No two values of a knob give the same programs.

    What ``programs_of`` gives later is traced if all before it are the same.
    """
    first, *rest = map(functools.cache, programs_of)
    for name, other in listed.items():
        configs = variants(base, name, other)
        assert len(configs) > 1, name
        programs = [(first(cfg),) for cfg in configs]
        for further in rest:
            if len(set(programs)) == len(programs):
                break
            programs = [
                (*p, further(c)) for p, c in zip(programs, configs, strict=True)
            ]
        assert len(set(programs)) == len(programs), name


def assert_roles(base, listed, model_of, batch):
    """Every knob of a model changes what its role says, and nothing else.

    Evaluation with its initial values, but for knobs of training, which change training
    alone, and of execution, which may change either; those of initial values leave what
    is made of given parameters as it is.
    """
    keys = {name: jax.random.key(n) for n, name in enumerate(("params", "dropout"))}

    def program_of(cfg, train):
        def init_and_apply(keys):
            return model_of(cfg).init_with_output(keys, batch, train=train)

        return traced((init_and_apply, (keys,)))

    @functools.cache
    def applied(first):
        """The program of given parameters, whose shapes are those of ``first``."""
        made = functools.partial(model_of(first).init, train=False)
        params = jax.eval_shape(made, keys, batch)
        rngs = {"dropout": keys["dropout"]}

        @functools.cache
        def program_of(cfg):
            apply = functools.partial(model_of(cfg).apply, train=True, rngs=rngs)
            return traced((apply, (params, batch)))

        return program_of

    evaluated, trained = (
        functools.cache(functools.partial(program_of, train=train))
        for train in (False, True)
    )
    roles = {name: role_of(type(base), name) for name in listed}
    of = {role: {n: listed[n] for n in listed if roles[n] == role} for role in ROLES}
    assert_live(base, of.pop("training"), trained)
    both = of.pop("execution")
    assert_live(base, both, evaluated, trained)
    for role in of:
        assert_live(base, of[role], evaluated)
    for name, role in roles.items():
        if role in ("training", "initial"):
            configs = variants(base, name, listed[name])
            program = evaluated if role == "training" else applied(configs[0])
            same = {*map(program, configs)}
            assert len(same) == 1, f"{name} is no knob of role={role!r}"


def test_every_knob_of_the_model_changes_the_programs_of_its_role():
    base = ModelConfig(
        **dict(width=8, heads=2, ffn_width=12, encoder_depth=1, decoder_depth=1),
        **dict(source_vocab=11, target_vocab=11, dropout=0.1),
    )
    batch = jax.tree.map(lambda x: np.ones((2, 3), np.int32), translation.example())

    assert_roles(base, MODEL, Transformer, batch)


def test_every_knob_of_the_optimizer_changes_the_traced_update():
    params = {name: jnp.ones((2, 2)) for name in ("kernel", "table", "bias")}
    params = {"layer_0": params}  # rates depend on the layer

    def program_of(cfg):
        optimizer = make_optimizer(cfg, 100)
        state = jax.eval_shape(optimizer.init, params)
        parts = [(optimizer.update, (params, state, params))]
        if SCHEDULES[cfg.schedule].watches:
            observe = functools.partial(plateau.observe, cfg)
            parts.append((observe, (plateau.start(), 1, 1.0)))
        return traced(*parts)

    assert_live(OptimConfig(), OPTIM, program_of)
    assert make_schedule(OptimConfig(schedule="linear"), 9_000)(5_000) != (
        make_schedule(OptimConfig(schedule="linear"), 9_001)(5_000)
    )


def test_the_attention_kernel_is_a_choice():
    """``model.attention``: on this machine "auto" is "xla", others are refused."""
    if jax.default_backend() != "cpu":
        pytest.skip("about CPUs")
    assert IMPLEMENTATIONS == ("auto", "xla", "cudnn", "splash")
    batch = translation.example()
    sizes = dict(width=8, heads=2, source_vocab=11, target_vocab=11)
    for kernel in ("cudnn", "splash"):
        model = Transformer(ModelConfig(**sizes, attention=kernel))
        init = functools.partial(init_params, model, jax.random.key(0))
        params = jax.eval_shape(init, batch)  # runs none
        with pytest.raises(ValueError, match=f"model.attention='{kernel}' needs a"):
            apply = functools.partial(model.apply, train=False)
            jax.eval_shape(apply, {"params": params}, batch)


def test_outside_of_sections_there_are_only_the_seed_and_names():
    """Where a run starts from and what stays: tests/runs/test_initial.py."""
    assert Experiment._fields[:3] == ("seed", "model_name", "task")
    assert Experiment._fields[-2:] == ("init_from", "freeze")
    built = [resolve(get_config(seed=seed)) for seed in (0, 1)]
    init = jax.jit(program.build(built[0].complete(Vocabulary)).init)
    states = [init(e.seed) for e in built]
    assert init._cache_size() == 1
    assert not np.array_equal(states[0].rng, states[1].rng)
    weights = zip(*(jax.tree.leaves(s.params) for s in states), strict=True)
    same = [np.array_equal(a, b) for a, b in weights if a.ndim > 1 and a.any()]
    assert same and not any(same)
