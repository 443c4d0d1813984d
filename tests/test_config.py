import dataclasses
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from tfm_jax.config import (
    ConfigError,
    build,
    check_argv,
    check_overrides,
    from_json,
    knob,
    load,
    load_run,
    override,
    section,
    to_json,
    types_of,
)

PLACEMENTS = {"post": 1, "pre": 2, "sandwich": 3, "none": 4}


@dataclasses.dataclass(frozen=True)
class Arch:
    width: int = 512
    norm: str = knob("post", "", choices=PLACEMENTS)
    dropout: float = 0.1
    tie: bool = True


@dataclasses.dataclass(frozen=True)
class Model(Arch):
    heads: int = 8
    name: str = ""
    files: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (16, 32)
    betas: tuple[float, ...] = (0.9, 0.98)

    def __post_init__(self):
        if self.heads and self.width % self.heads:
            raise ValueError(f"model.heads={self.heads} must divide width={self.width}")


finite = st.floats(allow_nan=False, allow_infinity=False)
models = st.builds(
    Model,
    width=st.integers(),
    norm=st.sampled_from(sorted(PLACEMENTS)),
    dropout=finite,
    tie=st.booleans(),
    heads=st.just(0),
    name=st.text(),
    files=st.lists(st.text()).map(tuple),
    lengths=st.lists(st.integers()).map(tuple),
    betas=st.lists(finite).map(tuple),
)


def config_of(**overrides):
    return ConfigDict(dict(seed=0, model=section(Model, **overrides)))


def refusal(call, *args, **kwargs):
    """The message of the ConfigError, which fits on one line."""
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_section_shows_every_field_of_the_dataclass_and_of_its_parents():
    assert set(section(Model)) == {field.name for field in dataclasses.fields(Model)}


def test_a_float_field_takes_a_float_override_even_if_its_default_is_an_int():
    @dataclasses.dataclass(frozen=True)
    class Config:
        rate: float = 0

    shown = section(Config)
    shown.rate = 0.5
    assert build(Config, shown).rate == 0.5


@given(models)
def test_build_inverts_section(model):
    assert build(Model, section(Model, **dataclasses.asdict(model))) == model


@given(models)
def test_json_is_lossless(model):
    config = config_of(**dataclasses.asdict(model))
    text = to_json(config)
    assert from_json(text) == config.to_dict()
    assert build(Model, from_json(text)["model"]) == model
    assert build(Model, ConfigDict(from_json(text)).model) == model
    assert to_json(from_json(text)) == text


@given(models, st.randoms())
def test_json_text_does_not_depend_on_the_order_of_keys(model, random):
    plain = dataclasses.asdict(model)
    names = list(plain)
    random.shuffle(names)
    assert to_json({name: plain[name] for name in names}) == to_json(plain)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from([f.name for f in dataclasses.fields(Model)]), JSON_VALUES)
def test_build_takes_exactly_the_values_of_the_announced_types(name, value):
    def legal(kind, value):
        if kind is float:
            return type(value) in (int, float) and math.isfinite(value)
        if kind in ("ints", "strings", "floats"):
            element = {"ints": int, "strings": str, "floats": float}[kind]
            return type(value) is list and all(legal(element, item) for item in value)
        return type(value) is kind

    kinds = dict(width=int, norm=str, dropout=float, tie=bool, heads=int, name=str)
    kinds |= dict(files="strings", lengths="ints", betas="floats")
    values = dict(section(Model, heads=0).to_dict()) | {name: value}
    if legal(kinds[name], value) and (name != "norm" or value in PLACEMENTS):
        try:
            built = build(Model, values)
        except ConfigError as error:
            assert "must divide" in str(error)
        else:
            got = getattr(built, name)
            assert list(got) == value if isinstance(got, tuple) else got == value
    else:
        assert f"model.{name}={value!r}" in refusal(build, Model, values)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            dict(norm="prelm"),
            "model.norm='prelm'; choose from (post, pre, sandwich, none)",
        ),
        (dict(norm="prelm"), "did you mean 'pre'?"),
        (dict(nrom="pre"), "model.nrom: there is no such knob; did you mean 'norm'?"),
        (dict(dropout=math.nan), "model.dropout=nan; expected finite number"),
        (dict(dropout=math.inf), "model.dropout=inf; expected finite number"),
        (dict(dropout="0.1"), "model.dropout='0.1'; expected finite number"),
        (dict(dropout=10**400), "expected finite number"),
        (dict(width=512.0), "model.width=512.0; expected integer"),
        (dict(width=True), "model.width=True; expected integer"),
        (dict(tie=1), "model.tie=1; expected boolean"),
        (dict(width=None), "model.width=None; expected integer"),
        (dict(betas=(0.9, "abc")), "model.betas=(0.9, 'abc'); expected finite numbers"),
        (dict(lengths=16), "model.lengths=16; expected integers separated by commas"),
        (dict(heads=7), "model.heads=7 must divide width=512"),
        (dict(__qualname__="os.system"), "model.__qualname__: there is no such knob"),
    ],
)
def test_build_names_the_knob_the_value_and_what_is_legal(overrides, words):
    values = section(Model).to_dict() | overrides
    assert words in refusal(build, Model, values)


def test_build_names_the_section_as_the_command_line_calls_it():
    assert "optim.width=0.5" in refusal(build, Arch, {"width": 0.5}, "optim")


def test_build_guesses_no_value_that_is_missing():
    values = section(Model).to_dict()
    del values["heads"]
    assert refusal(build, Model, values) == "model.heads is missing"


def test_section_refuses_what_build_refuses():
    assert "there is no such knob" in refusal(section, Model, witdh=1)
    assert "choose from" in refusal(section, Model, norm="prelm")


def test_choice_refuses_a_default_that_is_no_choice():
    with pytest.raises(ValueError, match="choose from"):
        knob("prelm", "", choices=PLACEMENTS)


def test_a_knob_of_an_unsupported_type_is_an_error_of_the_programmer():
    @dataclasses.dataclass(frozen=True)
    class Config:
        table: dict = None

    with pytest.raises(TypeError, match="config field"):
        section(Config)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "JSON"),
        ("[1]", "not an object"),
        ('{"a": NaN}', "a=nan"),
        ('{"a": {"b": -Infinity}}', "a.b=-inf"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": null}', "a=None"),
        ("[" * 100_000, "JSON"),
        ('{"a": ' + "1" * 5_000 + "}", "JSON"),
    ],
)
def test_json_that_is_no_config_is_refused(text, words):
    assert words in refusal(from_json, text)


@pytest.mark.parametrize("value", [None, {1, 2}, b"x", math.nan, len, 1j])
def test_a_config_that_json_would_change_is_refused(value):
    assert "a.b=" in refusal(to_json, {"a": {"b": value}})


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--config.seed=1", "--config.seed=2"], "--config.seed is given twice"),
        (["--config.seed=1", "-config.seed", "2"], "--config.seed is given twice"),
        (["--workdir=a", "--workdir=b"], "--workdir is given twice"),
        (["--noconfig.tie"], "write --name=value"),
        (["--flagfile=x"], "not supported"),
        (["--config.tie"], "write --config.tie=value"),
        (["--config.tie", "--workdir=x"], "write --config.tie=value"),
        (["--config.betas[0]=1"], "not understood"),
        (["train"], "not understood"),
        (["--"], "not understood"),
        ([""], "not understood"),
    ],
)
def test_check_argv_refuses_what_would_be_misread(argv, words):
    assert words in refusal(check_argv, argv)


REFUSED = ("undefok", "flagfile")  # flags of absl that change how others are read
NAMES = st.text(string.ascii_lowercase, min_size=4, max_size=8).filter(
    lambda name: name not in REFUSED
)
VALUES = st.integers().map(str) | st.sampled_from(["none", "a.en,b.de", "x=y", ""])


@given(st.dictionaries(NAMES, VALUES), st.data())
def test_check_argv_keeps_every_flag_and_both_ways_to_write_it(wanted, data):
    argv = []
    for name, value in wanted.items():
        apart = data.draw(st.booleans()) and not value.startswith("-")
        argv += [f"--{name}", value] if apart else [f"--{name}={value}"]
    assert check_argv(argv) == [f"--{name}={value}" for name, value in wanted.items()]


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--config.model.nrom=pre", "'model.nrom'; did you mean 'model.norm'?"),
        ("--config.width=1", "'width'; did you mean 'model.width'?"),
        ("--config.optim.width=1", "'optim.width'; did you mean 'model.width'?"),
        ("--config.model=pre", "replace the whole section"),
        ("--config.model={'width': 1}", "replace the whole section"),
        ("--config.model.name=None", "None is not a value"),
        ("--config.model.dropout=nan", "nan is not a value"),
        ("--config.model.betas=(0.9,nan)", "nan is not a value"),
        ("--config.model.width=abc", "--config.model.width=abc; expected integer"),
        ("--config.zzz=1", "--config.zzz=1: there is no knob 'zzz'"),
    ],
)
def test_check_overrides_names_the_nearest_knob(argument, words):
    assert words in refusal(check_overrides, [argument], config_of())


@pytest.mark.parametrize("knob", ["model.depth", "optim.lr", "lr", "train.steps"])
def test_the_nearest_knob_may_have_more_words(knob):
    config = dict(
        model=dict(width=8, norm="pre", encoder_depth=1, decoder_depth=1),
        optim=dict(peak_lr=0.1, eps=0.1),
        train=dict(total_steps=1),
    )
    *section, word = knob.split(".")
    hint = refusal(check_overrides, [f"--config.{knob}=1"], config).split()[-1]
    assert hint.startswith("'" + "".join(section)) and hint.endswith(f"_{word}'?")


def test_a_declared_type_counts_before_that_of_the_value():
    """A configuration does not know what an empty tuple holds, nor what came later."""
    declared = {"model.files": tuple[int, ...], "model.heads": float, "new.knob": str}
    argv = ["--config.model.files=1", "--config.model.heads=2", "--config.new.knob=3"]
    assert check_overrides(argv, config_of(), declared) == {
        "model.files": (1,),
        "model.heads": 2.0,
        "new.knob": "3",
    }
    assert check_overrides(argv[:1], config_of()) == {"model.files": ("1",)}


def test_overrides_reach_knobs_that_an_old_run_lacks():
    config = ConfigDict(dict(model=dict(width=8)))
    changed = override(config, {"model.width": 9.5, "new.deep.knob": "a"})
    assert changed.to_dict() == dict(
        model=dict(width=9.5), new=dict(deep=dict(knob="a"))
    )
    assert changed.is_locked


def test_types_are_those_that_the_dataclass_and_its_sections_declare():
    assert types_of(Model)["files"] == tuple[str, ...]
    assert types_of(Model, "model.").keys() == {f"model.{n}" for n in section(Model)}


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


GOOD = "from ml_collections import ConfigDict\nSIZES = dict(tiny=1, base=2)\n"
GOOD += "def get_config(size='base'):\n    return ConfigDict(dict(seed=SIZES[size]))\n"


def test_load_passes_the_size(tmp_path):
    path = write(tmp_path, "good.py", GOOD)
    assert load(path).seed == 2
    assert load(f"{path}:tiny").seed == 1


@pytest.mark.parametrize(
    "text, size, words",
    [
        (GOOD, ":huge", "no size 'huge'"),
        (GOOD.replace("size='base'", "").replace("size", "'base'"), ":tiny", "no size"),
        ("def get_config(: pass", "", "line 1"),
        ("x = 1", "", "defines no get_config()"),
        ("def get_config(): return {}", "", "no ConfigDict"),
    ],
)
def test_load_says_what_is_wrong_with_the_file(tmp_path, text, size, words):
    path = write(tmp_path, "bad.py", text)
    assert words in refusal(load, path + size)


def test_a_knob_that_there_is_not_cannot_be_set(tmp_path):
    """Neither in Python nor in a file for --config."""
    for config in (section(Model), config_of().model):
        with pytest.raises(AttributeError, match="nrom"):
            config.nrom = "pre"
    path = tmp_path / "nrom.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    config = ConfigDict(dict(seed=0, model=dict(norm='post'))).lock()\n"
        "    config.model.nrom = 'pre'\n"
        "    return config\n"
    )
    message = refusal(load, str(path))
    assert "there is no knob 'nrom'" in message and "did you mean 'norm'?" in message


def test_what_is_loaded_is_locked(tmp_path):
    path = write(tmp_path, "good.py", GOOD)
    with pytest.raises(AttributeError, match="sede"):
        load(path).sede = 1
    write(tmp_path, "config.json", to_json(config_of()))
    with pytest.raises(AttributeError, match="nrom"):
        load_run(str(tmp_path)).model.nrom = "pre"


def test_sizes_of_a_model_are_choices_too(tmp_path):
    text = GOOD.replace(
        "SIZES = dict(tiny=1, base=2)", "class model:\n    SIZES = dict(tiny=1, base=2)"
    )
    path = write(tmp_path, "model.py", text.replace("seed=SIZES", "seed=model.SIZES"))
    message = refusal(load, f"{path}:tin")
    assert "choose from (tiny, base); did you mean 'tiny'?" in message


def test_load_suggests_the_file_with_the_nearest_name(tmp_path):
    write(tmp_path, "transformer.py", GOOD)
    message = refusal(load, str(tmp_path / "transfomer.py"))
    assert "no such file; did you mean 'transformer.py'?" in message


def test_a_run_is_read_from_json_and_its_code_is_not_executed(tmp_path):
    write(tmp_path, "config.json", to_json(config_of(norm="pre")))
    write(tmp_path, "config.py", "raise SystemExit('executed')")
    assert load_run(str(tmp_path)).model.norm == "pre"
    assert "there is no run" in refusal(load_run, str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("text", ["", "\x80", '{"model": {"__reduce__": null}}'])
def test_a_broken_run_names_its_file(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert str(tmp_path / "config.json") in refusal(load_run, str(tmp_path))
