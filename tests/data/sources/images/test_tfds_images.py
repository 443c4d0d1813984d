"""Labelled images of TensorFlow Datasets."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data.sources.images.test_labelled import CLASSES, NAMES, NOISE, sets, splits
from tfm_jax.data.cache import prepared
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.images import KIND, Config

tfds = pytest.importorskip("tensorflow_datasets")


def coded(number):
    stream = io.BytesIO()
    Image.fromarray(NOISE[number]).save(stream, "PNG")
    return stream.getvalue()


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Twenty images and five without a label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(5, 4, 1), encoding_format="png")
        label = tfds.features.ClassLabel(names=NAMES)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._examples(20, 1), "test": self._examples(5, 0)}

    def _examples(self, count, known):
        for n in range(count):
            label = int(CLASSES[n]) if known else -1
            yield n, {"image": io.BytesIO(coded(n)), "label": label}

    _generate_examples = _examples


def test_an_image_set_of_tfds_is_read_without_tensorflow(tmp_path):
    TinyImages(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    cfg = Config(
        **dict(source="tfds", tfds_name="tiny_images", tfds_data_dir=str(tmp_path)),
        **dict(tfds_train="train[:75%]", tfds_valid="train[75%:]", tfds_test="test"),
    )
    data = prepared(KIND, cfg, None, tmp_path / "cache")
    assert {*sets(data)["train"], *sets(data)["valid"]} == {
        image.tobytes() for image in NOISE[:20]
    }
    assert data.report["train"]["labels"] == [*NAMES]
    assert not data.test[0].weights.any() and data.report["test"]["unlabelled"] == 5
    again = prepared(KIND, cfg, None, tmp_path / "cache")
    assert isinstance(again.train[0].images.base, np.memmap)
    assert "tensorflow" not in sys.modules
    with pytest.raises(DataError, match=r"mnist is not prepared .*tfds build mnist"):
        splits(Config(source="tfds", tfds_data_dir=str(tmp_path)))
