"""Folders that do not fit are refused with all that is wrong; torch is not needed."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file

from tfm_jax.decode.search import TokenIds
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.maps import generation, marian
from tfm_jax.interop.safetensors_io import FILE, INDEX
from tfm_jax.layers.arch import Arch
from tfm_jax.models.parts.encoder_decoder import TIES
from tfm_jax.models.transformer import Config

SMALL = Config(
    width=8,
    heads=2,
    ffn_width=6,
    encoder_depth=1,
    decoder_depth=1,
    source_vocab=11,
    target_vocab=11,
    max_length=16,
    positions="sinusoidal_halves",
    norm_eps=1e-5,
    output_bias=True,
)
THEIRS = marian.MARIAN.write_config(SMALL) | generation.write(TokenIds(), False)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    table = marian.MARIAN.table(SMALL)
    flat = {path: rng.normal(size=stored.ours) for path, stored in table.items()}
    return unflatten_dict({p: x.astype(np.float32) for p, x in flat.items()}, sep="/")


@pytest.fixture
def folder(params, tmp_path):
    save_huggingface(tmp_path / "model", params, SMALL)
    return tmp_path / "model"


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("activation", marian.ACTIVATIONS)
def test_configurations_survive_both_ways(tie, activation):
    config = dataclasses.replace(
        SMALL, tie=tie, activation=activation, attention_dropout=0.2, decoder_depth=3
    )
    assert marian.MARIAN.read_config(marian.MARIAN.write_config(config)) == config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "bart"}, "model_type='bart' must be 'marian'"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads=4 must be equal"),
        ({"encoder_ffn_dim": 7}, "encoder_ffn_dim=7 and decoder_ffn_dim=6 must be"),
        ({"activation_function": "quick_gelu"}, "'quick_gelu'; choose from (relu,"),
        ({"tie_word_embeddings": False}, "True with tie_word_embeddings=False; choose"),
        ({"decoder_layerdrop": 0.1}, "decoder_layerdrop=0.1 must be 0.0"),
        ({"d_model": "8"}, "d_model='8' must be an integer in 1 .."),
        ({"decoder_vocab_size": 12}, "model.target_vocab=12"),
    ],
)
def test_a_config_without_counterpart_is_refused(change, message):
    with pytest.raises(ValueError) as error:
        marian.MARIAN.read_config(THEIRS | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(norm="pre"), "model.norm='pre' must be 'post'"),
        (dict(norm_eps=1e-6), "model.norm_eps=1e-06 must be 1e-05"),
        (dict(positions="sinusoidal"), "'sinusoidal' must be 'sinusoidal_halves'"),
        (dict(activation="geglu"), "model.activation='geglu'; choose from"),
        (dict(key_size=3), "model.key_size and model.value_size must be"),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message, params, tmp_path):
    config = dataclasses.replace(SMALL, **change)
    with pytest.raises(ValueError) as error:
        save_huggingface(tmp_path / "new", params, config)
    assert message in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_model_type_without_counterpart_is_refused_in_both_directions(
    folder, params, tmp_path
):
    (folder / "config.json").write_text(json.dumps(THEIRS | {"model_type": "bart"}))
    with pytest.raises(ValueError, match=r"'bart'; choose from \(albert, .*, marian"):
        load_huggingface(folder)
    with pytest.raises(ValueError, match=r"'bart'; choose from \(albert, .*, marian"):
        save_huggingface(tmp_path / "new", params, SMALL, model_type="bart")
    with pytest.raises(ValueError, match=r"Arch has no counterpart among \(alb"):
        save_huggingface(tmp_path / "new", params, Arch())


def test_older_files_may_leave_out_what_marian_defaults():
    older = {k: v for k, v in THEIRS.items() if marian.DEFAULTS.get(k) != v}
    older = {k: v for k, v in older.items() if not k.endswith("_token_id")}
    assert "decoder_layerdrop" not in older
    assert marian.MARIAN.read_config(older) == SMALL
    special, force_eos = generation.read(marian.DEFAULTS | older, None)
    assert (special.eos, force_eos) == (0, True)
    del older["encoder_layers"]
    assert marian.MARIAN.read_config(older).encoder_depth == 12


def test_forced_and_forbidden_tokens_come_from_the_generation_config():
    decoding = {
        "forced_eos_token_id": 2,
        "bad_words_ids": [[0], [7]],
        "eos_token_id": 2,
    }
    found = generation.read(THEIRS | {"forced_eos_token_id": None}, decoding)
    assert found == (TokenIds(pad=0, bos=1, eos=2, forbid=(0, 7)), True)
    assert generation.read(THEIRS, generation.write(*found)) == found
    with pytest.raises(ValueError, match=r"eos_token_id=\[2, 3\] must be one token"):
        generation.read(THEIRS | {"eos_token_id": [2, 3]}, None)
    with pytest.raises(ValueError, match="must be single tokens"):
        generation.read(THEIRS | {"bad_words_ids": [[4, 5]]}, None)


def test_pickles_are_refused_and_not_opened(folder):
    (folder / FILE).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(ValueError, match="pytorch_model.bin.*save_pretrained"):
        load_huggingface(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=FILE):
        load_huggingface(folder)


def test_a_damaged_file_is_named(folder):
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[:-10])
    with pytest.raises(ValueError, match=f"{FILE} is damaged"):
        load_huggingface(folder)


def test_index_and_shards_must_agree(folder):
    tensors = load_file(folder / FILE)
    (folder / FILE).unlink()
    save_file(tensors, folder / "one.safetensors")

    def index(places):
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))

    index({name: "one.safetensors" for name in tensors})
    load_huggingface(folder)
    places = {name: "one.safetensors" for name in tensors}
    index(places | {"lm_head.weight": "one.safetensors"})  # a copy that none holds
    load_huggingface(folder)
    index(places | {"model.encoder.layers.7.fc1.bias": "one.safetensors"})
    load_huggingface(folder)  # nobody misses it
    index({name: "one.safetensors" for name in tensors if name != marian.BIAS})
    with pytest.raises(ValueError, match=f"differ in .*{marian.BIAS}"):
        load_huggingface(folder)
    index({name: "../one.safetensors" for name in tensors})
    with pytest.raises(ValueError, match="is not a plain file name"):
        load_huggingface(folder)


def test_parameters_that_do_not_fit_are_not_written(params, tmp_path):
    broken = dict(params, extra={"kernel": np.zeros((2, 2), np.float32)})
    del broken["output_bias"]
    with pytest.raises(
        ValueError, match="extra/kernel is unknown; .*output_bias is mis"
    ):
        save_huggingface(tmp_path / "new", broken, SMALL)


def test_a_model_without_output_bias_is_written_with_zeros(params, tmp_path):
    config = dataclasses.replace(SMALL, output_bias=False)
    rest = {name: x for name, x in params.items() if name != "output_bias"}
    save_huggingface(tmp_path / "new", rest, config)
    found = load_huggingface(tmp_path / "new")
    np.testing.assert_array_equal(found.params["output_bias"], np.zeros(11))


def test_nothing_is_overwritten(folder, params):
    with pytest.raises(FileExistsError):
        save_huggingface(folder, params, SMALL)


def test_importing_and_loading_need_no_torch(folder):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from tfm_jax.interop import load_huggingface\n"
        f"model = load_huggingface({str(folder)!r})\n"
        "print(model.logits([[3, 4, 2]], [[1, 5]]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 2, 11)", done.stderr
