"""Classes of images: trained, resumed, scored and asked, as text is."""

import functools
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.reliability import tiny
from tests.workloads import image_runs
from tests.workloads.image_runs import get_config
from tfm_jax import models
from tfm_jax.config import ConfigError
from tfm_jax.data.batch import ImageBatch
from tfm_jax.data.sources.images.labelled import Config
from tfm_jax.main import main
from tfm_jax.metrics.confusion import Confusion
from tfm_jax.notebook import load_run
from tfm_jax.objectives import classify_images
from tfm_jax.runs.log import read_history
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import ranking
from tfm_jax.train import loop, population
from tfm_jax.train.costs.dry_run import dry_run
from tfm_jax.workloads import WORKLOADS

pytestmark = pytest.mark.usefixtures("compiled_once")

AUGMENT = dict(crop_padding=1, erasing=0.2, mixup=0.3, cutmix=0.5)
AUGMENTED = dict(data=dict(augment=AUGMENT))


@pytest.fixture(scope="module", autouse=True)
def known():
    models.register(image_runs.FAMILY)
    yield
    models.MODELS.pop(image_runs.FAMILY.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, results) of six steps on augmented digits."""
    workdir = tmp_path_factory.mktemp("digits")
    return workdir, loop.train(get_config(**AUGMENTED, pictures=True), workdir)


@pytest.fixture(scope="module")
def run(trained):
    return load_run(trained[0])


def test_it_learns_to_tell_digits_apart(tmp_path):
    config = get_config(total_steps=150, log_every_steps=50)
    config.eval.every_steps = config.checkpoint.every_steps = 150
    results = loop.train(config, tmp_path)
    assert results["test"]["accuracy"] > 0.8, "by chance 0.1"
    assert results["test"]["top5_accuracy"] > 0.97, "by chance 0.5"


def test_its_scores_are_those_of_each_image_whatever_the_batches(run, trained):
    """The last batch is filled up with images of weight 0."""
    data = run.config.workload.prepare(run.config)
    (rows,) = data.test
    chances = run.classify(np.asarray(rows.images)).to_numpy()
    right = chances.argmax(1) == rows.labels
    scores = trained[1]["test"]
    assert scores["examples"] == len(right) and len(right) % 128
    assert scores["accuracy"] == pytest.approx(right.mean())
    nll = -np.log(chances[np.arange(len(right)), rows.labels]).mean()
    assert scores["nll"] == pytest.approx(nll, rel=1e-5)
    ranks = (chances > chances[np.arange(len(right)), rows.labels][:, None]).sum(1)
    assert scores["top5_accuracy"] == pytest.approx((ranks < 5).mean())
    assert run.evaluate()["nll"] == pytest.approx(nll, rel=1e-5)


def test_confused_classes_are_counted_named_and_drawn(trained, run):
    workdir, results = trained
    table = (workdir / "confusion-test.tsv").read_text().splitlines()
    counts = np.array([line.split("\t")[1:] for line in table[1:]], int)
    assert counts.sum() == results["test"]["examples"]
    assert np.trace(counts) / counts.sum() == results["test"]["accuracy"]
    assert (workdir / "confusion-test.png").stat().st_size > 5000
    assert table[0].split("\t")[1:] == run.labels == [str(n) for n in range(10)]


def test_the_most_confused_classes_come_first():
    confusion = Confusion(np.array([[5, 1, 0], [4, 4, 0], [0, 2, 0]]), ["a", "b", "c"])
    assert confusion.worst(2) == [("b", "a", 4, 0.5), ("c", "b", 2, 1.0)]
    assert len(confusion.worst(9)) == 3


def test_it_goes_on_bit_for_bit_as_if_it_had_never_stopped(trained, tmp_path):
    assert not tiny.run(tmp_path / "cut", get_config(**AUGMENTED), stop=(3,))
    assert tiny.run(tmp_path / "cut", get_config(**AUGMENTED))
    assert tiny.digests(tmp_path / "cut") == tiny.digests(trained[0])


def test_two_devices_compute_what_one_does(trained, tmp_path):
    config = get_config(**AUGMENTED)
    config.mesh.data = 2
    results = loop.train(config, tmp_path)
    assert results["test"]["nll"] == pytest.approx(trained[1]["test"]["nll"], rel=1e-4)
    losses = [
        [r["loss"] for r in read_history(path) if r["kind"] == "train"]
        for path in (tmp_path, trained[0])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_member_of_a_population_sees_what_a_run_alone_sees(trained, tmp_path):
    configs = [get_config(**AUGMENTED) for _ in range(2)]
    configs[1].seed = 1
    folders = [tmp_path / "0", tmp_path / "1"]
    population.train(configs, folders)
    results = [json.loads((path / "results.json").read_text()) for path in folders]
    alone = trained[1]["test"]["nll"]
    assert results[0]["test"]["nll"] == pytest.approx(alone, rel=1e-4)
    assert results[1]["test"]["nll"] != pytest.approx(alone, rel=1e-3)


def logits(params, batch, **_):
    del batch
    return params


def test_the_loss_of_a_mixture_is_that_of_its_soft_label():
    random = np.random.default_rng(0)
    scores = jnp.asarray(random.normal(size=(3, 4)), jnp.float32)
    labels, others = np.array([0, 1, 2]), np.array([3, 1, 0])
    shares, weights = np.float32([0.25, 0.6, 0.0]), np.float32([1, 1, 0])
    batch = ImageBatch(None, labels, weights, others, shares)
    eye = np.eye(4)
    soft = (1 - shares)[:, None] * eye[labels] + shares[:, None] * eye[others]
    soft = 0.9 * soft + 0.1 / 4
    wanted = -(soft * jax.nn.log_softmax(scores)).sum(-1) @ weights
    how = dict(smoothing=0.1, train=True)
    sums = jax.jit(functools.partial(classify_images.loss_sum, logits, **how))(
        scores, batch
    )
    assert sums[0] == pytest.approx(float(wanted), rel=1e-6) and sums[1] == 2


def test_the_five_likeliest_count_where_there_are_more_classes():
    def sums(classes):
        scores = np.tile(np.arange(classes, dtype=np.float32), (3, 1))
        batch = ImageBatch(None, np.array([0, 1, 2]), np.float32([1, 1, 1]))
        of = functools.partial(classify_images.eval_sums, logits)
        return jax.device_get(jax.jit(of)(scores, batch))

    assert float(sums(6)["top5"]) == 2 and "top5" not in sums(5)
    assert "top5_accuracy" not in classify_images.scores(sums(5), {})
    assert classify_images.scores(sums(7), {})["top5_accuracy"] == pytest.approx(1 / 3)


def test_a_model_for_other_images_or_classes_is_refused(tmp_path):
    wrong = {
        "8x8 pixels of 1 channels, the model is for 8x8 of 3": dict(channels=3),
        "the model is for 4x4 of 1": dict(image_size=(4,)),
        "model.labels=7, but the training data has 10": dict(labels=7),
    }
    for message, changes in wrong.items():
        with pytest.raises(ConfigError, match=message):
            loop.train(get_config(model=changes), tmp_path / "none")
    random = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 2))
    labels = image_runs.write_idx(tmp_path / "l", np.arange(40) % 10)
    files = image_runs.write_idx(tmp_path / "i", random), labels
    data = dict(source="idx", train_files=files)
    augment = dict(augment=dict(randaugment_layers=1))
    with pytest.raises(ConfigError, match="randaugment_layers=1 .* these have 2"):
        config = get_config(data=data | augment, model=dict(channels=2))
        loop.train(config, tmp_path / "none")
    grey = image_runs.write_idx(tmp_path / "grey", random[..., 0]), labels
    with pytest.raises(ConfigError, match=r"the test split have .* \[8, 8, 1\], those"):
        data |= dict(test_files=grey, test_share=0.0)
        config = get_config(data=data, model=dict(channels=2))
        loop.train(config, tmp_path / "none")
    with pytest.raises(ConfigError, match=r"data\.image_size=\(6, 7\) .* 6x7 pixels"):
        resolve(get_config(data=dict(image_size=(6, 7))))
    assert not (tmp_path / "none" / "config.json").exists()


def test_what_a_dry_run_counts_are_images(capsys):
    dry_run(get_config())
    text = capsys.readouterr().out
    assert re.search(r"a train step: .* FLOPs, 32 images\n", text)
    assert "all 6 of them: about 192 images, " in text


def test_runs_are_ranked_by_the_scores_that_they_have(trained):
    there = ranking(resolve(get_config()))
    record = next(r for r in read_history(trained[0]) if r["kind"] == "valid")
    assert {n for n, known in there.items() if known} == there.keys() & record.keys()
    for labels, known in ((2, False), (5, False), (6, True)):
        few = ranking(resolve(get_config(model=dict(labels=labels))))
        assert few["top5_accuracy"] == known


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two digits as files in colour, and what is none."""
    folder = tmp_path_factory.mktemp("files")
    digits = WORKLOADS["classify_images"].prepare(resolve(get_config())).test[0].images
    for number in (0, 1):
        image = Image.fromarray(digits[number, ..., 0]).convert("RGB")
        image.save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("two digits")
    return folder, digits


def test_image_files_are_classified_on_the_command_line(trained, run, files, capsys):
    folder, digits = files
    assert (
        main(["--mode=classify", f"--workdir={trained[0]}", f"--input={folder}"]) == 0
    )
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(folder / f"{n}.png") for n in (0, 1)]
    chances = run.classify(digits[:2])
    for line, (_, row) in zip(lines, chances.iterrows(), strict=True):
        best = row.sort_values(ascending=False, kind="stable")[:5]
        assert line[1::2] == [*best.index]
        assert [float(x) for x in line[2::2]] == pytest.approx([*best], abs=1e-4)


def test_paths_are_read_from_standard_input(trained, files, capsys, monkeypatch):
    typed = f"{files[0] / '1.png'}\n\n{files[0] / '0.png'}\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert main(["--mode=classify", f"--workdir={trained[0]}"]) == 0
    paths = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert paths == typed.decode().split()


@pytest.mark.parametrize(
    "wanted, code, message",
    [
        ("notes.txt", 65, "notes.txt is broken: no file of PNG or JPEG"),
        ("none.png", 65, "there is no file .*none.png"),
    ],
)
def test_a_file_that_is_no_image_is_named(
    trained, files, capsys, wanted, code, message
):
    path = files[0] / wanted
    argv = ["--mode=classify", f"--workdir={trained[0]}", f"--input={path}"]
    assert main(argv) == code
    assert re.search(message, capsys.readouterr().err)


def test_a_notebook_classifies_arrays_files_and_images_of_pillow(run, files):
    folder, digits = files
    paths = [folder / "0.png", folder / "1.png"]
    of_files = run.classify(paths)
    assert [*of_files.index] == [*map(str, paths)]
    np.testing.assert_allclose(of_files.sum(axis=1), 1, rtol=1e-5)
    of_images = run.classify([Image.open(path) for path in paths])
    np.testing.assert_array_equal(of_images.to_numpy(), of_files.to_numpy())
    of_arrays = run.classify([digits[0], digits[1, ..., 0]])
    np.testing.assert_allclose(of_arrays.to_numpy(), of_files.to_numpy(), atol=1e-6)
    assert run.classify([]).shape == (0, 10)
    for image in (paths[0], digits[0], digits[0, ..., 0], np.zeros((9, 9, 3), "uint8")):
        with pytest.raises(TypeError, match=r"one image; write classify\(\[image\]\)"):
            run.classify(image)
    assert run.classify(digits[:2, ..., 0]).shape == (2, 10)


def test_other_files_are_scored_as_the_validation_files_are_read(tmp_path, files):
    _, digits = files
    named = "one", "two"
    train = (
        image_runs.write_idx(tmp_path / "i", np.asarray(digits[..., 0])),
        image_runs.write_idx(tmp_path / "l", np.arange(len(digits)) % 2),
    )
    data = dict(source="idx", train_files=train, labels=named, split_seed=1)
    config = get_config(data=data, model=dict(labels=2))
    loop.train(config, tmp_path / "run")
    scores = load_run(tmp_path / "run").evaluate(",".join(train))
    assert scores["examples"] == len(digits) and scores["split"] == ",".join(train)
    argv = ["--mode=eval", f"--workdir={tmp_path / 'run'}", f"--input={train[0]}"]
    assert main(argv) == 65  # the labels are missing
    larger = np.zeros((len(digits), 16, 16), np.uint8)
    large = image_runs.write_idx(tmp_path / "large", larger)
    with pytest.raises(ConfigError, match="16x16 pixels of 1 channels, the model is f"):
        load_run(tmp_path / "run").evaluate(f"{large},{train[1]}")
    with pytest.raises(ValueError, match="data.source='digits' reads no files"):
        Config().reading("x.png")
