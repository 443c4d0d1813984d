"""The public face: light to import, complete, and the command line's own reading."""

import subprocess
import sys

import pytest

from tfm_jax import api

SMALL = "--config=configs/transformer_numerals_small.py"


@pytest.mark.parametrize("module", ["tfm_jax.api", "experiments.run"])
def test_to_be_imported_or_asked_for_help_takes_no_framework(module):
    heavy = ("jax", "flax", "orbax", "pandas", "scipy", "matplotlib", "tensorflow")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_it_lists_is_there(name):
    assert getattr(api, name) is not None


def test_a_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018


@pytest.mark.parametrize("flag", ["--config.seed=x", "--mode=fly", "--checkpoint=-1"])
def test_a_command_line_that_main_refuses_is_refused(flag, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(api.ConfigError, match=flag.partition("=")[0].strip("-")):
        api.read_command([SMALL, flag])
