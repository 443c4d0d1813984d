"""A text set of TFDS, ten texts with a label each."""

import pytest

tfds = pytest.importorskip("tensorflow_datasets")


class TinyText(tfds.core.GeneratorBasedBuilder):
    """The text says its number; the label is whether it is odd."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=2)
        features = {"text": tfds.features.Text(), "label": label}
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._examples(False), "test": self._examples(True)}

    def _examples(self, hidden):
        for n in range(10):
            label = -1 if hidden else n % 2
            yield n, {"text": f"Sätzlein\u2028 {n}", "label": label}

    _generate_examples = _examples


def prepared(folder):
    """Builds the set in ``folder``; gives the settings that read it."""
    TinyText(data_dir=folder, file_format="array_record").download_and_prepare()
    return {
        "source": "tfds", "tfds_name": "tiny_text", "tfds_data_dir": str(folder),
        "tfds_valid": "train[:20%]",
    }  # fmt: skip
