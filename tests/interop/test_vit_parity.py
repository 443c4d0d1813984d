"""ViT of transformers and the imported model compute the same."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import ViTImageProcessorPil

from tests.interop.text_reference import (
    assert_parity,
    assert_round_trip,
    make,
    mean_cross_entropy,
)
from tests.layers.weights import randomised
from tests.models.tiny_images import TINY, shapes, tiny
from tests.models.tiny_images import run as run_model
from tfm_jax.data.batch import ImageBatch
from tfm_jax.interop import (
    load_huggingface,
    read_initial,
    save_huggingface,
    verify,
    workdirs,
)
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.maps.vit import VIT
from tfm_jax.interop.safetensors_io import FILE, read
from tfm_jax.models import vit
from tfm_jax.notebook import load_run
from tfm_jax.runs import initial, saved
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve

NAME = "ViTForImageClassification"
SIZES = {  # the tiny one, and one with sides and patches that are not square
    "square": dict(
        hidden_size=24, num_attention_heads=3, intermediate_size=40, image_size=12,
        patch_size=4, num_labels=5, num_hidden_layers=2,
    ),
    "odd": dict(
        hidden_size=10, num_attention_heads=5, intermediate_size=7, image_size=[9, 10],
        patch_size=[3, 5], num_labels=3, num_hidden_layers=1, num_channels=2,
        hidden_act="gelu_new",
    ),
}  # fmt: skip
PLAIN = dict(norm_eps=1e-12, activation="gelu")  # what HF has by default


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported from the folder it wrote, the folder)."""
    model = make(NAME, **SIZES[request.param])
    folder = tmp_path_factory.mktemp("vit")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder


def pixels(config, count=3):
    shape = (count, *config.image, config.channels)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def theirs(images):
    return torch.tensor(np.moveaxis(images, -1, 1))


def test_logits_loss_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    images, labels = pixels(imported.config), np.array([0, 2, 1])
    model.double()
    outputs = model(pixel_values=theirs(images).double(), labels=torch.tensor(labels))
    batch = ImageBatch(images, None, None)
    arrays, loss_of = [outputs.logits], lambda y: mean_cross_entropy(y, labels)
    assert_parity(model, outputs.loss, arrays, imported, batch, VIT.to_params, loss_of)
    model.float()


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    assert_round_trip(*pair, tmp_path / "new")


def test_verify_asks_images(pair):
    *_, folder = pair
    said = []
    rows = verify.compare(folder, say=said.append)
    assert {(row.rows, row.output) for row in rows} == {
        ("one image", "logits"),
        ("images", "logits"),
    }
    assert verify.passed(rows) and not said


def test_a_bare_model_has_the_states_of_all_tokens(tmp_path):
    model = make("ViTModel", **SIZES["odd"])
    model.save_pretrained(tmp_path / "theirs")
    imported = load_huggingface(tmp_path / "theirs")
    images = pixels(imported.config)
    with torch.no_grad():
        wanted = model(pixel_values=theirs(images)).last_hidden_state
    np.testing.assert_allclose(imported.logits(images), wanted, rtol=0, atol=1e-5)
    save_huggingface(tmp_path / "ours", imported.params, imported.config)
    tensors = load_file(tmp_path / "theirs" / FILE)
    assert {n for n in tensors if "pooler" not in n} == {*read(tmp_path / "ours")}


def test_a_folder_becomes_a_run_and_a_run_a_folder(tmp_path, capsys):
    """By the commands; there is no tokenizer to ask for."""
    model, params = tiny(**PLAIN)
    save_huggingface(tmp_path / "a", params, model.cfg, labels=tuple("vwxyz"))
    folders = [str(tmp_path / name) for name in ("a", "run", "b")]
    assert main(["import", *folders[:2]]) == main(["export", *folders[1:]]) == 0
    run = load_run(tmp_path / "run")
    assert (run.config.task, run.config.model) == ("classify_images", model.cfg)
    assert (run.config.data.image_size, saved.label_names(run)) == (
        (6, 8),
        [*"vwxyz"],
    )
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert main(["import", folders[0], folders[1] + "2", "--tokenizer=a"]) == 78
    assert "--tokenizer=a is for text; task='classify_" in capsys.readouterr().err


def test_a_run_of_larger_images_starts_from_a_folder(tmp_path):
    """Its architecture is the folder's, but for the size of images and the classes."""
    model, params = tiny(**PLAIN)
    save_huggingface(tmp_path / "a", params, model.cfg)
    source = read_initial(str(tmp_path / "a"))
    sizes = dict(image_size=(10, 12), labels=7)
    config = configure(
        *("vit", "classify_images"), init_from=str(tmp_path / "a"),
        model=sizes | dict(patch_size=(2, 4)),
    )  # fmt: skip
    run, taken = initial.adopt(resolve(config), source.model, ())
    assert {"width", "depth", "channels"} <= taken.keys()
    assert dataclasses.replace(model.cfg, **sizes) == run.model
    initial.check(run, source)
    fresh = randomised(shapes(run.build_model()), seed=1)
    merged, report = initial.merge(run, source, fresh)
    assert report.fitted == ["encoder/embedding/position/table"]
    assert {*report.new} == {"head/classify/out/bias", "head/classify/out/kernel"}
    assert str(report).endswith("1 fitted (encoder), 2 new (head), 2 unused (head)")
    table = merged["encoder"]["embedding"]["position"]["table"]
    assert table.shape == (1 + 5 * 3, 8)
    images = np.zeros((1, 10, 12, 2), np.float32)
    assert run_model(run.build_model(), merged, ImageBatch(images, None, None)).shape


def test_positions_of_a_larger_image_are_those_of_transformers(pair, tmp_path):
    """Square ones: transformers takes the grid for square."""
    model, imported, folder = pair
    if imported.config.grid != (3, 3):
        return
    (tmp_path / "model").mkdir()
    source = read_initial(str(folder))
    now = vit.Config(
        **(PLAIN | dict(width=24, heads=3, image_size=(20, 16), patch_size=(4,)))
    )
    name = "encoder/embedding/position/table"
    before = source.params["encoder"]["embedding"]["position"]["table"]
    table = vit.for_size({name: before}, source.model, now)[name]
    embeddings = model.vit.embeddings
    with torch.no_grad():
        wanted = embeddings.interpolate_pos_encoding(torch.zeros(1, 21, 24), 20, 16)
    np.testing.assert_allclose(table, wanted[0], rtol=0, atol=5e-6)


def test_how_pixels_are_scaled_is_in_a_file_of_its_own(tmp_path):
    means = dict(pixel_mean=(0.5, 0.4), pixel_std=(0.25, 0.5))
    model, params = tiny(**PLAIN, **means)
    save_huggingface(tmp_path / "a", params, model.cfg, labels=tuple("vwxyz"))
    imported = load_huggingface(tmp_path / "a")
    assert imported.config == model.cfg and imported.labels == tuple("vwxyz")
    file = tmp_path / "a" / "preprocessor_config.json"
    values = json.loads(file.read_text())
    assert values["size"] == {"height": 6, "width": 8}
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 2)).astype(np.uint8)
    scaled = (image * values["rescale_factor"] - values["image_mean"]) / (
        values["image_std"]
    )
    np.testing.assert_allclose(
        imported.logits(image[None]), imported.logits(scaled[None].astype(np.float32)),
        atol=1e-4,
    )  # fmt: skip
    for change, message in [
        ({"rescale_factor": 1.0}, "rescale_factor must be 1/255"),
        ({"do_rescale": False}, "do_rescale=False must be True"),
        (
            {"image_mean": ["a"]},
            r"image_mean=\['a'\] must be a number, not negative, or",
        ),
    ]:
        file.write_text(json.dumps(values | change))
        with pytest.raises(ValueError, match=message):
            load_huggingface(tmp_path / "a")
    file.write_text(json.dumps(values | {"do_normalize": False}))
    plain = load_huggingface(tmp_path / "a").config
    assert (plain.pixel_mean, plain.pixel_std) == ((0.0,), (1.0,))


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """A model of colours, and its folder with the processor of transformers."""
    model = make(NAME, **SIZES["square"] | dict(num_hidden_layers=1))
    folder = tmp_path_factory.mktemp("processed")
    model.save_pretrained(folder)
    size = {"height": 12, "width": 12}
    ViTImageProcessorPil(size=size).save_pretrained(folder)
    return model, folder


def test_a_photograph_of_other_proportions_has_the_classes_of_transformers(
    processed, tmp_path, capsys
):
    model, folder = processed
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    noise = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    photograph = Image.fromarray(noise)
    processor = ViTImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**processor(photograph, return_tensors="pt")).logits
    chances = run.classify([photograph]).to_numpy()
    np.testing.assert_allclose(chances, torch.softmax(logits, -1), atol=1e-5)
    assert not workdirs.unwritten(tmp_path / "run")
    cropped = dataclasses.replace(run.config.data, fit="crop")
    built = run.config._replace(data=cropped)
    workdirs.write_run(tmp_path / "cropped", built, None, run.params, {})
    capsys.readouterr()
    assert main(["export", *map(str, (tmp_path / "cropped", tmp_path / "out"))]) == 0
    assert "stretches images to 12x12 pixels, this run crops" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        ({"do_center_crop": True}, "do_center_crop=True must be False"),
        ({"size": {"shortest_edge": 12}}, "size={'shortest_edge': 12} must be {"),
        ({"size": 14}, "size={'height': 14, 'width': 14} must be {'height': 12,"),
        ({"resample": 3}, "resample=3 must be 2"),
        ({"size": 12, "do_center_crop": None}, ""),
        ({"do_resize": False, "size": 14}, ""),
    ],
)
def test_a_folder_that_resizes_in_another_way_is_no_run(
    processed, change, message, tmp_path, capsys
):
    """But a model: its parameters are read, for images of its size."""
    _, folder = processed
    folder = shutil.copytree(folder, tmp_path / "folder")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code = main(["import", str(folder), str(tmp_path / "run")])
    assert code == (78 if message else 0)
    assert message in capsys.readouterr().err
    assert load_huggingface(folder).config.image == (12, 12)


THEIRS = VIT.write_config(vit.Config(**(TINY | PLAIN)))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"qkv_bias": False}, "qkv_bias=False must be True"),
        ({"image_size": "12"}, "image_size='12' must be an integer in 1 .. "),
        ({"image_size": [6, 0]}, r"image_size=\[6, 0\] must be an integer in 1 .. "),
        ({"image_size": []}, r"image_size=\(\) must be one or two"),
        ({"patch_size": [4, 4]}, r"model.patch_size=\(4, 4\) must divide"),
        (
            {"architectures": ["ViTForMaskedImageModeling"]},
            "'ViTForMaskedImageModeling'; choose from",
        ),
    ],
)
def test_a_config_without_counterpart_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        VIT.read_config(THEIRS | change)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(pool="mean"), "model.pool='mean' must be 'cls'"),
        (dict(registers=2), "model.registers=2 must be 0"),
        (dict(positions="sincos2d"), "model.positions='sincos2d' must be 'learned'"),
        (dict(representation_width=4), "model.representation_width=4 must be 0"),
        (dict(head="features"), "model.head='features'; choose from"),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message):
    with pytest.raises(ValueError, match=message):
        VIT.write_config(vit.Config(**(TINY | PLAIN | change)))
