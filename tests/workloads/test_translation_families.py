"""Every family that translates trains, resumes, spreads over devices and is used.

Recurrent models are stopped and spread in ``tests/reliability/test_recurrent_runs.py``.
"""

import functools
import io
import sys

import numpy as np
import pytest

from tests.reliability import test_recurrent_runs, tiny
from tfm_jax.audit import audit_transformer
from tfm_jax.config import section
from tfm_jax.main import main
from tfm_jax.models import conv_seq2seq
from tfm_jax.notebook import load_run
from tfm_jax.runs.log import read_history
from tfm_jax.train import loop, population

pytestmark = pytest.mark.usefixtures("compiled_once")

CONVOLUTIONAL = dict(
    embedding_width=12,
    output_width=12,
    encoder_widths=(16,),
    decoder_widths=(12, 16),
    encoder_kernels=(3,),
    decoder_kernels=(3, 4),
    tie="three_way",
    dropout=0.1,
)


def convolutional_config(**changes):
    """A run of packed rows, as hard to resume as that of ``tiny``."""
    few = dict(train__total_steps=6, eval__every_steps=4, data__batching="pack")
    model = section(conv_seq2seq.Config, **CONVOLUTIONAL)
    return tiny.get_config(model_name="conv_seq2seq", model=model, **few | changes)


FAMILIES = {
    "conv_seq2seq": convolutional_config,
    "rnn_seq2seq": functools.partial(test_recurrent_runs.config, data__batching="pack"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def trained(family, tmp_path_factory):
    """The workdir of a run."""
    workdir = tmp_path_factory.mktemp(family)
    loop.train(FAMILIES[family](), workdir)
    return workdir


convolutional = pytest.mark.parametrize("family", ["conv_seq2seq"], indirect=True)


def losses(workdir):
    return [r["loss"] for r in read_history(workdir) if r["kind"] == "train"]


@convolutional
def test_a_run_that_was_stopped_goes_on_bit_for_bit(family, trained, tmp_path):
    assert not tiny.run(tmp_path, FAMILIES[family](), stop=(3,))
    assert tiny.run(tmp_path, FAMILIES[family]())
    assert tiny.digests(tmp_path) == tiny.digests(trained)


def test_it_translates_and_shows_what_it_attends_to(
    family, trained, monkeypatch, capsys
):
    lines = io.TextIOWrapper(io.BytesIO(b"seven\ntwenty-one\n"))
    monkeypatch.setattr(sys, "stdin", lines)
    knobs = ["--config.eval.beam=3", "--config.eval.max_length_offset=3"]
    capsys.readouterr()
    assert main(["--mode=translate", f"--workdir={trained}", *knobs]) == 0
    lines = capsys.readouterr().out.splitlines()
    run = load_run(trained)
    beam = dict(beam=3, max_length_offset=3)
    assert lines == run.translate(["seven", "twenty-one"], **beam)
    maps = run.attention("", target="neun")  # a single token, <eos>
    np.testing.assert_allclose(maps.cross, 1.0, rtol=1e-5)
    maps = run.attention("seven", target="neun")
    assert maps.kinds == ("cross",)
    np.testing.assert_allclose(maps.cross.sum(-1), 1.0, rtol=1e-5)
    assert (trained / "attention.png").is_file()
    report = audit_transformer(run.model, run.params, show=False)
    assert report.passed and all(check.measured is not None for check in report)


@pytest.mark.slow
@convolutional
def test_devices_and_a_population_lose_what_one_run_loses(family, trained, tmp_path):
    """Parameters and tensors divided; a member beside another one."""
    spread = FAMILIES[family](mesh__fsdp=2, mesh__tensor=2, mesh__cpu_devices=8)
    members = [tmp_path / "a", tmp_path / "b"]
    with tiny.quick():
        loop.train(spread, tmp_path / "spread")
        population.train([FAMILIES[family](seed=seed) for seed in (0, 1)], members)
    np.testing.assert_allclose(losses(tmp_path / "spread"), losses(trained), rtol=1e-4)
    np.testing.assert_allclose(losses(members[0]), losses(trained), rtol=1e-4)
    assert losses(members[1]) != losses(members[0])
