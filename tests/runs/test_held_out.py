"""What a run may be scored on is nothing that it was trained on."""

import dataclasses
import functools

import numpy as np
import pytest

from tests.reliability.tiny import get_config
from tests.workloads import text_runs
from tfm_jax.config import ConfigError
from tfm_jax.data.rows import images
from tfm_jax.data.sources.documents import load_documents
from tfm_jax.data.sources.images.labelled import load_images
from tfm_jax.runs import resume
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check_settings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name -> a run as it was trained."""
    folder = tmp_path_factory.mktemp("texts")
    text_runs.write_files(folder)
    for n in range(30):
        (folder / f"doc{n}.txt").write_text(f"text number {n}")
    text = resolve(text_runs.get_config("causal_lm", "gpt", "lm", folder))
    files = tuple(str(folder / name) for name in ("text.txt", "days.txt"))
    named = dict(source="files", train_files=files[:1], valid_files=files[1:])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 2), np.uint8)
    for name, part in (("train", pixels[:30]), ("valid", pixels[30:])):
        np.savez(folder / f"{name}.npz", images=part, labels=np.arange(len(part)) % 2)
    npz = {f"{n}_files": (str(folder / f"{n}.npz"),) for n in ("train", "valid")}
    digits = resolve(configure("vit", "classify_images"))
    return {
        "folder": _with(text, source="folder", folder=str(folder), test_share=0.1),
        "pydocs": _with(text, source="pydocs"),
        "named files": _with(text, **named),
        "digits": _with(digits, test_share=0.2),
        "named images": _with(digits, source="npz", **npz),
    }


def _with(run, **changes):
    return run._replace(data=dataclasses.replace(run.data, **changes))


@functools.cache
def _examples(data, split):
    """Images are told by their pixels, pieces of text by what they begin with."""
    if isinstance(data, images.Config):
        loaded, _ = load_images(data, split)
        return {one.tobytes() for one in loaded.pixels}
    loaded, _ = load_documents(data, split)
    return {text[-40:] for text in loaded.texts}


CHANGES = [
    dict(split_seed=5),
    dict(valid_share=0.5),
    dict(valid_share=0.5, test_share=0.0),
    dict(test_share=0.4),
    dict(valid_files=()),
    dict(valid_files=(), test_share=0.4),
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("name", ["folder", "named files", "digits", "named images"])
def test_a_run_is_not_used_where_it_would_be_scored_on_what_it_was_trained_on(
    name, changes, runs
):
    trained = runs[name]
    now = _with(trained, **changes)
    try:
        resume.used(trained, now)
    except ConfigError as error:
        assert "trained otherwise; data." in str(error)
        return
    held_out = _examples(now.data, "valid") | _examples(now.data, "test")
    assert not held_out & _examples(trained.data, "train")


def test_splits_and_data_that_are_named_may_be_others(runs):
    elsewhere = dict(source="folder", folder="/elsewhere", valid_share=0.7)
    for name, changes in (
        ("digits", elsewhere),
        ("pydocs", elsewhere),
        ("named files", dict(test_files=("more.txt",))),
        ("named images", dict(valid_files=("more.npz",))),
        ("named images", dict(train_files=("moved.npz",))),
    ):
        now = _with(runs[name], **changes)
        assert resume.used(runs[name], now) == now


def test_shares_and_seeds_that_nothing_reads_may_be_others(runs):
    valid = runs["named images"].data.valid_files
    named = _with(runs["named images"], test_files=valid, valid_share=0.1)
    for changes in (dict(valid_share=0.5), dict(split_seed=5)):
        now = _with(named, **changes)
        assert resume.used(named, now) == now


def test_a_variant_holds_out_the_same_examples():
    """Made examples may be others: these are drawn apart."""
    check_settings(resolve(get_config(eval__variants=("two:numerals_joined=2",))))
    with pytest.raises(ConfigError, match="variants, 'a': data.numerals_seed would"):
        check_settings(resolve(get_config(eval__variants=("a:numerals_seed=1",))))
