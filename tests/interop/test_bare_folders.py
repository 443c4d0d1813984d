"""Folders of bare models and sparse configurations, as transformers writes them."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.text_reference import ask, make, text, torch, transformers
from tests.models.tiny_text import tiny
from tfm_jax.config import ConfigError
from tfm_jax.interop import (
    load_huggingface,
    read_initial,
    save_huggingface,
    workdirs,
)
from tfm_jax.interop.maps import MAPS
from tfm_jax.interop.safetensors_io import FILE, read
from tfm_jax.models import bert

SIZES = dict(hidden_size=16, num_attention_heads=2, intermediate_size=8, vocab_size=19)
SIZES |= dict(num_hidden_layers=1, max_position_embeddings=12)
BARE = {"AlbertModel": {"embedding_size": 6}, "ElectraModel": {"embedding_size": 6}}
BARE |= {"BertModel": {}}


@pytest.mark.parametrize(
    "model_type", [name for name in MAPS if name in transformers.CONFIG_MAPPING]
)
def test_what_a_configuration_leaves_out_has_transformers_defaults(model_type):
    name_map = MAPS[model_type]
    whole = transformers.AutoConfig.for_model(model_type).to_json_string(use_diff=False)
    whole = {name: x for name, x in json.loads(whole).items() if x is not None}

    def read(values):
        try:
            return name_map.read_config(values | {"model_type": model_type})
        except ValueError as error:  # a model that has no counterpart here
            return str(error)

    assert read({}) == read(whole)


def test_labels_of_which_several_may_be_right_are_refused():
    values = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    kind = "multi_label_classification"
    with pytest.raises(ValueError, match=f"problem_type='{kind}' has no counterpart"):
        MAPS["bert"].read_ids(values | {"problem_type": kind}, None)


@pytest.mark.parametrize("name", BARE)
def test_a_bare_model_is_read_by_its_names_without_prefix(name, tmp_path):
    model = make(name, **SIZES | BARE[name])
    model.save_pretrained(tmp_path / "theirs")
    found = load_huggingface(tmp_path / "theirs")
    assert found.config.head == "states"
    batch = text(19)
    with torch.no_grad():
        states = ask(model, batch).last_hidden_state.numpy()
    lengths = batch.segments.sum(1)
    ours = np.array(found.logits(batch.tokens, lengths, batch.types))
    real = batch.segments > 0
    np.testing.assert_allclose(ours[real], states[real], rtol=0, atol=1e-5)
    rows = [row[:n] for row, n in zip(batch.tokens, lengths, strict=True)]
    types = [row[:n] for row, n in zip(batch.types, lengths, strict=True)]
    means = [states[row, :n].mean(0) for row, n in enumerate(lengths)]
    np.testing.assert_allclose(found.embed(rows, types=types), means, rtol=0, atol=1e-5)

    save_huggingface(tmp_path / "ours", found.params, found.config)
    tensors = read(tmp_path / "theirs")
    assert {n for n in tensors if "pooler" not in n} == {*read(tmp_path / "ours")}
    again = load_huggingface(tmp_path / "ours")
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)


def test_a_bare_model_is_a_start_but_no_run(tmp_path):
    model, params = tiny(bert, head="states")
    save_huggingface(tmp_path, params, model.cfg)
    source = read_initial(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, source.params, params)
    with pytest.raises(ConfigError, match="--config.init_from=FOLDER takes its"):
        workdirs.import_folder(tmp_path, tmp_path / "run")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_that_a_wrapper_put_in_front_are_read(prefix, tmp_path):
    model, params = tiny(bert, head="tag")
    save_huggingface(tmp_path, params, model.cfg)
    tensors = load_file(tmp_path / FILE)
    save_file({prefix + name: x for name, x in tensors.items()}, tmp_path / FILE)
    found = load_huggingface(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_a_message_about_many_names_is_short(tmp_path):
    model, params = tiny(bert, head="tag", depth=5)
    save_huggingface(tmp_path, params, model.cfg)
    tensors = load_file(tmp_path / FILE)
    save_file({"wrapped." + n: x for n, x in tensors.items()}, tmp_path / FILE)
    with pytest.raises(ValueError, match="and .* more") as error:
        load_huggingface(tmp_path)
    assert len(str(error.value)) < 1000
    name = "x" * 100_000
    save_file(tensors | {name: np.zeros(1, np.float32)}, tmp_path / FILE)
    with pytest.raises(ValueError, match="is unknown") as error:
        load_huggingface(tmp_path)
    assert len(str(error.value)) < 1000


def test_a_name_that_is_no_folder_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = "there is no folder bert-base-uncased, and nothing is downloaded here"
    with pytest.raises(ConfigError, match=wanted) as error:
        workdirs.import_folder("bert-base-uncased", tmp_path / "run")
    assert re.search(r"hf download bert-base-uncased --local-dir", str(error.value))
    with pytest.raises(ConfigError, match=wanted):
        read_initial("bert-base-uncased")
