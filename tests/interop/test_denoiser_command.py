"""`python -m tfm_jax.interop` on folders of diffusers, and runs that start from one."""

import functools
import json
import shutil
import sys

import jax
import numpy as np
import pytest

from tests.interop.denoisers import batch_of
from tests.layers.weights import randomised
from tfm_jax.interop import (
    load_diffusers,
    read_initial,
    save_diffusers,
    schedulers,
    verify,
)
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.diffusers import FILE
from tfm_jax.interop.safetensors_io import read
from tfm_jax.layers.layout import init_params
from tfm_jax.models import dit, unet
from tfm_jax.notebook import load_run
from tfm_jax.objectives.denoise import Noise

DRAWN = dict(spacing="trailing", clip=True)
MODELS = {
    "dit": dit.Dit(
        dit.Config(
            **dict(width=16, heads=2, ffn_width=64, depth=1, channels=1, labels=10),
            **dict(image_size=(8,), patch_size=(4,), variance="learned"),
        )
    ),
    "unet": unet.UNet(
        unet.Config(
            **dict(width=8, groups=4, depth=1, channels=1, image_size=(8,)),
            **dict(multipliers=(1, 2), attention_at=(4,), labels=0, dropout=0.0),
        )
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """With a folder and a workdir of each model."""
    root = tmp_path_factory.mktemp("diffusers")
    for name, model in MODELS.items():
        init, cfg = functools.partial(init_params, model), model.cfg
        shapes = jax.eval_shape(init, jax.random.key(0), batch_of((1, 8, 8), cfg))
        save_diffusers(root / name, randomised(shapes), cfg)
        assert main(["import", str(root / name), str(root / f"{name}-run")]) == 0
    return root


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_a_run_that_draws_and_a_folder_again(name, folders, tmp_path):
    run = load_run(folders / f"{name}-run")
    assert (run.config.task, run.config.model) == ("denoise", MODELS[name].cfg)
    learned = run.config.model.variance == "learned"
    assert run.config.data.noise.variance == ("learned" if learned else "small")
    assert run.draw([0], steps=2).shape == (1, 8, 8, 1)
    new = tmp_path / "new"
    assert main(["export", str(folders / f"{name}-run"), str(new)]) == 0
    assert schedulers.read(new)["variance"] == run.config.data.noise.variance
    assert len({file.stat().st_mode for file in new.iterdir()}) == 1
    before, after = read(folders / name, FILE), read(new, FILE)
    assert before.keys() == after.keys()
    for path, tensor in before.items():
        np.testing.assert_array_equal(after[path], tensor)
    assert load_diffusers(new).config == run.config.model


@pytest.mark.parametrize("name", MODELS)
def test_a_run_starts_from_a_folder(name, folders):
    source = read_initial(str(folders / name))
    assert (source.model_name, source.tokenizer) == (name, None)
    run = load_run(folders / f"{name}-run")
    jax.tree.map(np.testing.assert_array_equal, source.params, run.params)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_predictions_pass_and_others_fail(name, folders, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    assert main(["verify", str(folders / name)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "PASS: no output differs by more than 0.0001"
    assert ("Peebles and Xie's code" in lines[0]) == (name == "dit")

    def disturbed(folder, load=verify.folders.load):
        loaded = load(folder)
        params = jax.tree.map(lambda x: np.asarray(x) + 3e-3, loaded.params)
        return loaded._replace(params=params)

    monkeypatch.setattr(verify.folders, "load", disturbed)
    assert main(["verify", str(folders / name)]) == 1


MISTAKES = {  # arguments, {} being the folder of all -> the complaint
    "import {}/pipeline {}/new": "it is a pipeline of several models; name the folder "
    "of one below it (transformer, vae)",
    "import {}/other {}/new": "_class_name='VQModel'; choose from (",
    "import {}/dit {}/new --tokenizer={}/dit": "is for text; task='denoise' has none",
    "export {}/dit-run {}/new --model_type=gpt2": "model_type='gpt2' is one of "
    "transformers; this model is written as diffusers' DiTTransformer2DModel",
    "export {}/dit-run {}/unet": "is not empty",
    "verify {}/other": "_class_name='VQModel'; choose from (",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_code_78(command, folders, capsys):
    if not (folders / "other").exists():
        (folders / "other").mkdir()
        config = json.dumps({"_class_name": "VQModel"})
        (folders / "other" / "config.json").write_text(config)
        for part in ("transformer", "vae"):
            shutil.copytree(folders / "other", folders / "pipeline" / part)
        (folders / "pipeline" / "model_index.json").write_text("{}")
    assert main(command.format(*[folders] * 3).split()) == 78
    out, err = capsys.readouterr()
    assert err.startswith("tfm_jax.interop: ") and err.count("\n") == 1 and not out
    assert MISTAKES[command] in err
    assert not (folders / "new").exists()


def test_without_diffusers_verify_says_what_to_install(folders, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert main(["verify", str(folders / "dit")]) == 78
    assert "pip install torch diffusers" in capsys.readouterr().err


def test_a_run_draws_in_no_more_steps_than_its_folder_has(folders, tmp_path):
    shutil.copytree(folders / "dit", tmp_path / "dit")
    schedulers.write(tmp_path / "dit", Noise(steps=20, variance="learned"), **DRAWN)
    assert main(["import", str(tmp_path / "dit"), str(tmp_path / "run")]) == 0
    data = load_run(tmp_path / "run").config.data
    assert (data.noise.steps, data.sampler.steps) == (20, 20)


@pytest.mark.parametrize(
    "noise",
    [
        dict(steps=100, prediction="v", grey_levels=256),
        dict(schedule="cosine", steps=40, prediction="x0", variance="large"),
        dict(schedule="scaled_linear", snr_scale=0.25, variance="learned"),
    ],
)
def test_noise_is_the_same_in_diffusers_and_back(noise, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    section = Noise(**noise)
    schedulers.write(tmp_path, section, spacing="linspace", clip=False)
    theirs = diffusers.DDPMScheduler.from_pretrained(tmp_path)
    signal = section.make_schedule().alpha_bar
    np.testing.assert_allclose(theirs.alphas_cumprod.numpy(), signal, rtol=2e-4)
    how = theirs.config.timestep_spacing, theirs.config.clip_sample
    assert how == ("linspace", False)
    assert Noise(**schedulers.read(tmp_path)) == section


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        (dict(), dict(schedule="linear", steps=1000)),
        (dict(variance_type=None), dict(schedule="linear", steps=1000)),
        (dict(beta_schedule="squaredcos_cap_v2"), dict(schedule="cosine", steps=1000)),
        (
            dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
            | dict(prediction_type="v_prediction"),
            dict(schedule="scaled_linear", prediction="v"),
        ),
    ],
)
def test_schedulers_of_diffusers_are_read(given, read_as, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    diffusers.DDPMScheduler(**given).save_pretrained(tmp_path / "scheduler")
    assert Noise(**schedulers.read(tmp_path / "unet")) == Noise(**read_as)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(beta_end=0.5), "1000 betas from 0.0001 to 0.5 are none of the schedules"),
        (dict(beta_schedule="sigmoid"), "beta_schedule='sigmoid'; known are linear"),
        (dict(prediction_type="flow"), "prediction_type='flow'; known are epsilon"),
        (dict(_class_name="FlowMatchEulerDiscreteScheduler"), "FlowMatchEuler.* is of"),
        (dict(rescale_betas_zero_snr=True), "rescale_betas_zero_snr=true"),
        (dict(trained_betas=[]), "betas must be numbers between 0 and 1, one a step"),
        (dict(trained_betas=[0.1, 1.0]), "betas must be numbers between 0 and 1"),
        (dict(num_train_timesteps=0), "betas must be numbers between 0 and 1"),
    ],
)
def test_noise_that_is_never_like_that_here_is_refused(given, message, tmp_path):
    (tmp_path / schedulers.FILE).write_text(json.dumps(given))
    with pytest.raises(ValueError, match=f"{schedulers.FILE}: {message}"):
        schedulers.read(tmp_path)
