"""`data.source=tfds` on a data set built here: no network, no TensorFlow."""

import sys

import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.pairs import Config
from tfm_jax.data.sources.bitext import load_pairs

tfds = pytest.importorskip("tensorflow_datasets")


class TinyTranslate(tfds.core.GeneratorBasedBuilder):
    """Twenty and five sentence pairs."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.Translation(languages=["de", "en"])
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._examples(20), "validation": self._examples(5)}

    def _examples(self, count):
        for n in range(count):
            yield n, {"de": f"Sätzlein\u2028 {n}", "en": f"sentence {n}"}

    _generate_examples = _examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyTranslate(data_dir=path, file_format="array_record").download_and_prepare()
    return path


def config(folder, **changes):
    settings = {"tfds_name": "tiny_translate", "tfds_data_dir": str(folder)}
    return Config(source="tfds", **{**settings, **changes})


@pytest.mark.parametrize("languages", [("en", "de"), ("de", "en")])
def test_a_prepared_set_is_read_without_tensorflow(folder, languages):
    source, target = languages
    cfg = config(folder, source_language=source, target_language=target)
    pairs, report = load_pairs(cfg, "train")
    read = {source: pairs.source, target: pairs.target}
    expected = {(f"Sätzlein\u2028 {n}", f"sentence {n}") for n in range(20)}
    assert set(zip(read["de"], read["en"], strict=True)) == expected
    assert report["read"] == 20
    assert report["tfds"] == "tiny_translate/1.0.0"
    assert "tensorflow" not in sys.modules


def test_split_strings_slice_and_an_empty_one_is_absent(folder):
    cfg = config(folder, tfds_train="train[:25%]", tfds_test="")
    assert load_pairs(cfg, "train")[1]["read"] == 5
    assert load_pairs(cfg, "valid")[1]["read"] == 5
    assert load_pairs(cfg, "test")[1]["read"] == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_language": "fr"}, r"target_language='fr'.*choose from \(de, en\)"),
        ({"tfds_train": "trian"}, r"data\.tfds_train='trian'.*\['train', 'valid"),
        ({"tfds_name": "tiny_translation"}, r"'tiny_translation': .*not found"),
        ({"tfds_name": "huggingface:a/b"}, "over the network"),
        (
            {"tfds_name": "wmt14_translate/de-en"},
            "not prepared in .*tfds build wmt14_translate/de-en "
            "--file_format=array_record --data_dir=/",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(folder, changes, message):
    with pytest.raises(DataError, match=message) as error:
        load_pairs(config(folder, **changes), "train")
    assert "\n" not in str(error.value)


def test_a_missing_package_is_said_in_one_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match="needs the package tensorflow-datasets"):
        load_pairs(config(folder), "train")
