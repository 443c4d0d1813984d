"""Images and text of TensorFlow Datasets."""

import dataclasses
import io
import sys

import numpy as np
import pytest

from tests.data.sources.test_image_text import NOISE, coded
from tfm_jax.data.rows.image_text import Config
from tfm_jax.data.sources import image_text
from tfm_jax.data.sources.image_text import load_examples

tfds = pytest.importorskip("tensorflow_datasets")


class TinyCaptions(tfds.core.GeneratorBasedBuilder):
    """Six images with two captions each, as coco_captions has them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        captions = {"id": np.int64, "text": tfds.features.Text()}
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(5, 4, 3), encoding_format="png"),
                "captions": tfds.features.Sequence(captions),
                "title": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for n in range(6):
            captions = [{"id": k, "text": f"caption {k} of {n}"} for k in range(2)]
            image = {"image": io.BytesIO(coded(n)), "captions": captions}
            yield n, image | {"title": f"title {n}"}


def test_captions_of_tfds_are_read_without_tensorflow(tmp_path):
    TinyCaptions(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    cfg = Config(
        source="tfds", tfds_name="tiny_captions", tfds_data_dir=str(tmp_path),
        tfds_train="train[:50%]", tfds_valid="train[50%:]", tfds_test="",
    )  # fmt: skip
    seen = {}
    for split, images in (("train", 3), ("valid", 3), ("test", 0)):
        loaded, report = load_examples(cfg, split)
        assert len(loaded.examples) == 2 * images and len(loaded.pixels) == images
        for example in loaded.examples:
            number = int(example.turns[0].answer[-1])
            seen[example.turns[0].answer] = split
            assert example.references == tuple(
                f"caption {k} of {number}" for k in range(2)
            )
            assert np.array_equal(loaded.pixels[example.images[0]], NOISE[number])
    assert len(seen) == 12 and report["read"] == 0
    titles, _ = load_examples(dataclasses.replace(cfg, tfds_feature="title"), "train")
    assert all(x.turns[0].answer.startswith("title ") for x in titles.examples)
    assert image_text.content(cfg)
    assert "tensorflow" not in sys.modules
