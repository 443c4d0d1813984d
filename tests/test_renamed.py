"""Knobs that had other names: what runs of before say still counts."""

import pytest

from tfm_jax import api, main, renamed
from tfm_jax import config as configs
from tfm_jax.config import ConfigError
from tfm_jax.settings.experiment import resolve

BERT = "--config=configs/bert_base.py:tiny"
KNOBS = {  # former knob -> (flag of its name now, its value in a run of before)
    "optim.rates": ("optim.lr_multipliers=pool=2", ("pool=2",)),
    "data.masking.share": ("data.masking.mask_rate=0.3", 0.3),
    "mesh.exchange": ("mesh.gradient_allreduce=fused", "flat"),
}
VARIANTS = ("more:masking.{}=0.4;row_seed=1",)
FLAGS = [f"--config.{flag}" for flag, _ in KNOBS.values()]
FLAGS += [f"--config.eval.variants={VARIANTS[0].format('mask_rate')}"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def before(tmp_path):
    """Folder with the config.json of a run of before, every former name in it."""
    config = api.read_command([BERT]).experiment.as_dict()
    config["eval"]["variants"] = (VARIANTS[0].format("share"),)
    for knob, (flag, value) in KNOBS.items():
        *outer, last = flag.partition("=")[0].split(".")
        section = config
        for name in outer:
            section = section[name]
        del section[last]
        section[knob.rpartition(".")[2]] = value
    (tmp_path / "config.json").write_text(configs.to_json(config))
    return tmp_path


def test_every_former_name_is_tried():
    assert KNOBS.keys() == renamed.NOW.keys()


def test_a_run_of_before_is_the_experiment_that_names_of_now_describe(before):
    now = api.read_command([BERT, *FLAGS]).experiment
    stored = configs.from_json((before / "config.json").read_bytes())
    assert resolve(stored) == now
    assert resolve(configs.load_run(before)) == now
    assert configs.to_json(renamed.former(now.as_dict())) == configs.to_json(stored)


def test_flags_of_now_change_a_run_of_before(before):
    flags = [f"--workdir={before}", "--config.mesh.gradient_allreduce=per_array"]
    assert api.read_command(flags).experiment.mesh.gradient_allreduce == "per_array"


@pytest.mark.parametrize("knob", KNOBS)
def test_a_flag_with_a_former_name_is_told_that_of_now(knob):
    name = KNOBS[knob][0].partition("=")[0]
    wanted = f"--config.{knob}=1: .* it is called '{name}' now$"
    with pytest.raises(ConfigError, match=wanted):
        api.read_command([BERT, f"--config.{knob}=1"])


@pytest.mark.parametrize(
    "line", ["config.optim.rates = ('a=1',)", "section(Config, rates=('a=1',))"]
)
def test_a_configuration_file_with_a_former_name_is_told_that_of_now(tmp_path, line):
    path = tmp_path / "mine.py"
    path.write_text(
        "from tfm_jax.config import section\n"
        "from tfm_jax.optim.optimizers import Config\n"
        "from tfm_jax.settings.configure import configure\n"
        "def get_config():\n"
        "    config = configure('gpt', 'causal_lm')\n"
        f"    {line}\n"
        "    return config\n"
    )
    with pytest.raises(ConfigError, match="it is called 'lr_multipliers' now$"):
        main.load_config(*main.parse([f"--config={path}"]))


def test_another_knob_of_a_former_name_is_not_meant():
    assert renamed.hint("share", ["groups", "width"]) == ""
    assert renamed.hint("share", ["mask_rate"]) == "; it is called 'mask_rate' now"


def test_both_names_of_a_knob_are_refused():
    config = api.read_command([BERT]).experiment.as_dict()
    config["mesh"]["exchange"] = "flat"
    with pytest.raises(ConfigError, match="^mesh.exchange is called mesh.gradient_all"):
        resolve(config)
