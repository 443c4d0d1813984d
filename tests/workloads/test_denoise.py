"""Images out of noise: a run of some steps, and what it draws."""

import contextlib
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.reliability import tiny
from tests.runs.events import summaries
from tests.runs.test_pictures import sheet_of
from tests.workloads.untrained import untrained
from tfm_jax import api
from tfm_jax.config import ConfigError
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.data.rows import images as images_data
from tfm_jax.main import main
from tfm_jax.models import vit
from tfm_jax.notebook import load_run
from tfm_jax.objectives.denoise import (
    to_pixels,
    to_signal,
)
from tfm_jax.runs.log import read_history
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check
from tfm_jax.train import loop
from tfm_jax.workloads import denoise

pytestmark = pytest.mark.usefixtures("compiled_once")


def get_config(**sections):
    """A DiT of one layer on digits, for six steps."""
    model = dict(width=16, heads=2, ffn_width=16, depth=1, image_size=(8,))
    model |= dict(patch_size=(4,), channels=1, labels=10, variance="fixed")
    data = dict(
        noise=dict(steps=10), sampler=dict(steps=4), valid_share=0.05, test_share=0.05
    )
    return configure(
        *("dit", "denoise"),
        model=model | sections.get("model", {}),
        data=data | sections.get("data", {}),
        optim=dict(peak_lr=1e-2),
        train=dict(total_steps=6, batch_tokens=32, log_every_steps=2, ema_decay=0.5),
        eval=dict(every_steps=3, batch_tokens=128, samples=12)
        | sections.get("eval", {}),
        checkpoint=dict(every_steps=3),
        mesh=dict(data=1, cpu_devices=8),
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Workdir of an untrained ViT whose data are the digits."""
    workdir = tmp_path_factory.mktemp("judge")
    config = configure(
        *("vit", "classify_images"),
        model=dict(vit.SIZES["tiny"], depth=1, width=8, patch_size=(4,), channels=1)
        | dict(labels=10),
        mesh=dict(data=1, cpu_devices=8),
    )
    untrained(workdir, config)
    return workdir


def judged_by(judge):
    """By a judge that partly has been given what is held out here."""
    config = get_config(
        model=dict(label_dropout=0.5),
        data=dict(split_seed=1),
        eval=dict(judge=str(judge)),
    )
    config.mesh.data, config.mesh.gradient_allreduce = 2, "fused"
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, judge):
    """(workdir, results) of six steps."""
    workdir = tmp_path_factory.mktemp("denoise")
    return workdir, loop.train(judged_by(judge), workdir)


def losses(workdir):
    return [r["loss"] for r in read_history(workdir) if r["kind"] == "train"]


def test_devices_draw_the_noise_and_leave_out_the_labels_that_one_does(
    trained, judge, tmp_path
):
    config = judged_by(judge)
    config.mesh.data, config.eval.every_steps = 1, 100
    with tiny.quick():
        loop.train(config, tmp_path)
    np.testing.assert_allclose(losses(trained[0]), losses(tmp_path), rtol=1e-4)


def test_a_run_is_scored_draws_images_and_is_loaded(trained):
    workdir, results = trained
    scores = results["valid"]
    assert 0 < scores["noise_error"] < 1.5 and scores["bits_per_dim"] > 0
    assert (workdir / "samples-valid.png").stat().st_size > 1000
    told = [r["samples"] for r in read_history(workdir) if r["kind"] == "pictures"]
    assert told == ["samples/000003.png", "samples/000006.png"]
    shown = {v.tag for v in summaries(workdir / "tensorboard") if v.HasField("image")}
    assert shown == {"samples"}
    assert all((workdir / path).stat().st_size > 1000 for path in told)
    test_scores = load_run(workdir).evaluate()
    assert test_scores["noise_error"] == pytest.approx(results["test"]["noise_error"])


def test_what_is_drawn_is_judged_after_training_and_whenever_it_is_asked_for(
    trained, judge, capsys
):
    workdir, results = trained
    resolved = resolve(load_run(workdir).config.as_dict())
    names = {f"valid/{name}" for name in results["valid"]}
    names |= {f"test/{name}" for name in results["test"]}
    assert {*api.score_names(resolved)} == names
    argv = ["--mode=eval", f"--workdir={workdir}"]
    assert main(argv) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["split"] == "test" and scores["samples"] == 12
    for name in ("frechet", "sample_accuracy", "gaussian_frechet", "judge"):
        assert scores[name] == pytest.approx(results["valid"][name]), name
    data = load_run(workdir).config.data
    learnt, heldout = (
        images_data.KIND.load(cfg, split, None)[0].pixels
        for cfg, split in ((load_run(judge).config.data, "train"), (data, "valid"))
    )
    seen = np.mean([np.any(np.all(learnt == one, axis=(1, 2, 3))) for one in heldout])
    assert api.judge_name(str(judge)) == results["valid"]["judge"]
    assert api.judge_name(str(workdir / "none")) == ""
    assert 0 < seen < 1 and results["valid"]["judge_has_seen"] == pytest.approx(seen)
    assert main([*argv, "--config.eval.judge="]) == 0
    assert "samples" not in json.loads(capsys.readouterr().out)


def test_who_cannot_judge_is_refused_in_one_line(trained, tmp_path):
    for judge, message in (
        (tmp_path / "none", "eval.judge=.*none"),
        (trained[0], "eval.judge=.* is one of task='denoise' with model_name='dit'"),
    ):
        with pytest.raises(ConfigError, match=message):
            loop.train(get_config(eval=dict(judge=str(judge))), tmp_path / "run")
    few = get_config(eval=dict(judge=str(trained[0]), samples=9))
    with pytest.raises(ConfigError, match="eval.samples=9 .* at least model.labels=10"):
        loop.train(few, tmp_path / "few")
    unread = get_config(eval=dict(judge="x", samples=0))
    with pytest.raises(ConfigError, match="eval.judge='x' has no effect with eval.sam"):
        loop.train(unread, tmp_path / "unread")


def test_a_drawn_image_depends_on_seed_number_and_label_alone(trained):
    run = load_run(trained[0])

    labels = [3, 1, 4, 1, 5]
    whole = run.draw(labels).astype(int)
    assert whole.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(run.draw(labels[:2]), whole[:2], atol=1)
    assert np.any(run.draw(labels, seed=1) != whole)
    assert np.any(run.draw(labels, guidance=3.0) != whole)
    assert run.labels == list("0123456789")
    np.testing.assert_array_equal(run.draw(["3", "1"]), run.draw([3, 1]))
    with pytest.raises(ValueError, match=r"labels='ten'; choose from \(0, 1"):
        run.draw(["ten"])
    with pytest.raises(TypeError, match=r"write \[3\]"):
        run.draw(3)


def test_knobs_of_the_sampler_are_given_by_name(trained):
    run = load_run(trained[0])
    np.testing.assert_array_equal(run.draw([3], steps=4), run.draw([3]))
    assert np.any(run.draw([3], method="ddpm") != run.draw([3]))
    for knobs, message in {
        ("method", "euler"): r"data.sampler.method='euler'; choose from \(ddpm",
        ("step", 2): "data.sampler.step: there is no such knob.*steps",
        ("steps", 11): "data.sampler.steps=11 must be at most data.noise.steps=10",
    }.items():
        with pytest.raises(ConfigError, match=message):
            run.draw([3], **dict([knobs]))
    with pytest.raises(ConfigError, match="data.sampler.eta=0.5 .*data.sampler.method"):
        run.interpolate(3, method="ddpm", eta=0.5)


def test_what_is_known_of_an_image_is_kept_and_a_blend_has_both_ends(trained):
    run = load_run(trained[0])
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    mask = np.arange(64).reshape(8, 8) % 3 > 0
    inpainted = run.inpaint(images, mask, [1, 10])
    np.testing.assert_array_equal(inpainted[:, mask], images[:, mask])
    assert np.any(inpainted[:, ~mask] != images[:, ~mask])
    blend = run.interpolate(3, 4).astype(int)
    ends = [run.interpolate(3, 1, seeds=(seed, 5))[0] for seed in (0, 1)]
    np.testing.assert_allclose(blend[[0, -1]], ends, atol=1)
    assert sheet_of(run.picture(blend)).shape == (8 + 1, 4 * (8 + 1), 3)
    with pytest.raises(ValueError, match=r"labels=\[11\] must be from 0 to 10"):
        run.draw([11])
    for *given, message in (
        (images[:, :4], mask, [1, 1], r"\(2, 4, 8, 1\) must be \(2, 8, 8, 1\)"),
        (images, mask, [1, 1, 1], "of 3 labels"),
        (images, mask[:4], [1, 1], r"mask \(4, 8\) must be \(8, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run.inpaint(*given)


def test_an_image_with_noise_is_taken_for_what_the_model_predicts_of_it(trained):
    run = load_run(trained[0])
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    spread = []
    for step in (0, 4, 9):
        noisy, restored = run.denoise(images, [1, 10], step=step)
        spread.append(np.std(noisy - images.astype(float)))
        assert noisy.shape == restored.shape == images.shape
    assert spread == sorted(spread) and spread[0] < 20
    signal = np.sqrt(run.config.data.noise.make_schedule().alpha_bar[9])
    sigma = np.sqrt(1 - signal**2)
    batch = NoisyBatch(to_signal(noisy), np.full(2, 900.0), np.array([1, 10]))
    noise = jax.jit(run.model.apply, static_argnames="train")(
        {"params": run.params}, batch, train=False
    )
    guess = (to_signal(noisy) - sigma * noise) / signal  # Ho et al. 2020, equation 15
    inside = (noisy > 0) & (noisy < 255)
    unlike = np.abs(to_pixels(guess)[inside] - restored[inside].astype(float))
    assert np.median(unlike) < 4
    with pytest.raises(ValueError, match="step=10 must be from 0 to 9"):
        run.denoise(images, [1, 10], step=10)
    with pytest.raises(ValueError, match="of 1 labels"):
        run.denoise(images, [1], step=0)


def test_images_are_drawn_on_the_command_line(trained, tmp_path, capsys):
    workdir, _ = trained
    output = tmp_path / "new" / "drawn.npz"
    argv = ["--mode=sample", f"--workdir={workdir}", f"--output={output}"]
    assert main([*argv, "--labels=3,1", "--count=5", "--config.seed=7"]) == 0
    with np.load(output) as drawn:
        images, labels = drawn["images"], drawn["labels"]
    assert labels.tolist() == ["3", "1", "3", "1", "3"]
    again = load_run(workdir).draw(labels.astype(int), seed=7)
    np.testing.assert_array_equal(images, again)
    (tmp_path / "folder.npz").mkdir()
    assert main([*argv[:2], f"--output={tmp_path / 'folder.npz'}"]) == 78
    assert "folder.npz cannot be written" in capsys.readouterr().err
    picture = tmp_path / "drawn.png"
    assert main([*argv[:2], f"--output={picture}"]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    source = dict(source="npz", train_files=(str(output),), valid_share=0.0)
    read = images_data.Config(**source)
    rows, _ = images_data.KIND.load(read, "train", None)
    np.testing.assert_array_equal(np.sort(rows.labels), [0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=x.jpg"], "--output=FILE.png or FILE.npz, not x.jpg"),
        ([], "--mode=sample needs --output=FILE.png or FILE.npz"),
        (["--output=x.png", "--labels=3,ten"], "--labels='ten'; choose from (0, 1, 2"),
        (["--output=x.png", "--count=0"], "--count"),
        (["--output=x.png", "--last=2"], "--last is not for --mode=sample"),
        (["--output=/dev/null/x.png"], "--output=/dev/null/x.png: "),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(trained, capsys, flags, message):
    assert main(["--mode=sample", f"--workdir={trained[0]}", *flags]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_numbers_that_are_none_are_no_picture(trained):
    run = load_run(trained[0])
    with pytest.raises(ConfigError, match="not finite; data.sampler.guidance=1.0 and"):
        run._sample([1], {}, noise=np.full((1, 8, 8, 1), np.nan))


def test_a_model_that_draws_no_images_yet_goes_on_to_learn(caplog):
    class Early(denoise.DenoiseEvaluator):
        cfg = SimpleNamespace(samples=1, pictures=True)

        def __init__(self):
            pass

        def loss(self, *_, **__):
            return {"noise_error": 1.0}

        def unrolled(self, params):
            return contextlib.nullcontext(params)

        def _drawn(self, *_):
            raise ConfigError("images have numbers that are not finite")

    assert Early().during({}) == ({"noise_error": 1.0}, {})
    assert "nothing is drawn: images have numbers that are not finite" in caplog.text


def test_a_file_that_is_scored_has_no_images_to_be_judged(trained, judge, capsys):
    flags = ["--input=x.npz", f"--config.eval.judge={judge}"]
    assert main(["--mode=eval", f"--workdir={trained[0]}", *flags]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "--input=x.npz is scored alone: no images are drawn that eval.judge" in line


@pytest.mark.parametrize("smoothing, given", [(0.1, True), (0.2, False)])
def test_labels_of_images_that_are_drawn_are_not_smoothed(smoothing, given, tmp_path):
    config = get_config()
    check(resolve(config), tmp_path, ("train.label_smoothing",))
    config.train.label_smoothing = smoothing
    with pytest.raises(ConfigError, match=f"smoothing={smoothing} has no effect with"):
        check(resolve(config), tmp_path, ("train.label_smoothing",) if given else ())


def test_no_label_is_no_image(trained):
    run = load_run(trained[0])
    assert run.draw([]).shape == (0, 8, 8, 1)
    assert np.all(sheet_of(run.picture(run.draw([]))) == 255)


def test_a_run_goes_on_as_if_it_had_never_stopped(trained, judge, tmp_path):
    config = judged_by(judge)
    assert not tiny.run(tmp_path / "cut", config, stop=(3,))
    assert tiny.run(tmp_path / "cut", config)
    assert tiny.digests(tmp_path / "cut") == tiny.digests(trained[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model=dict(variance="learned")), "data.noise.variance='small' does not"),
        (dict(data=dict(augment=dict(mixup=0.2))), "mixtures are no images to be draw"),
        (dict(data=dict(sampler=dict(steps=99))), "data.sampler.steps=99 must be at m"),
        (
            dict(data=dict(sampler=dict(guidance=1e39))),
            "guidance=1e.39 must be from 0.0 to 1,000",
        ),
        (
            dict(model=dict(labels=0), data=dict(sampler=dict(steps=4, guidance=2))),
            "data.sampler.guidance=2.0 needs model.labels",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message):
        resolve(get_config(**changes))


def test_a_model_of_another_number_of_classes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="model.labels=7 must be 0, or 10"):
        loop.train(get_config(model=dict(labels=7)), tmp_path)


@pytest.mark.parametrize("labels", [2, 0])
def test_images_of_no_class_are_left_out_by_those_alone_who_need_it(labels, tmp_path):
    """Where nobody needs the class they are refused: none is left out silently."""
    images = np.arange(8 * 64, dtype=np.uint16).astype(np.uint8).reshape(8, 8, 8)
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 1, 0, 1, -1, 0, 1, 0])
    files = dict(source="npz", train_files=(str(tmp_path / "a.npz"),))
    sizes = dict(noise=dict(steps=10), valid_share=0.0, test_share=0.0)
    experiment = resolve(get_config(model=dict(labels=labels), data=files | sizes))
    refused = pytest.raises(ConfigError, match="but 1 images of the train split have")
    with contextlib.nullcontext() if labels else refused:
        (rows,) = experiment.workload.prepare(experiment).train
        assert rows.weights.tolist() == [1, 1, 1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("size", [8, 16])
def test_digits_have_17_grey_levels_until_they_are_enlarged(size):
    """Their pixels are 0 to 16; those of enlarged ones lie between."""
    for levels, fits in ((17, size == 8), (9, False), (256, True)):
        noise = dict(noise=dict(steps=10, grey_levels=levels), image_size=(size,))
        experiment = resolve(get_config(model=dict(image_size=(size,)), data=noise))
        refused = pytest.raises(ConfigError, match=f"grey_levels={levels}: a pixel of")
        with contextlib.nullcontext() if fits else refused:
            experiment.workload.prepare(experiment)
