"""What transformers writes is read whole, what is written it reads, bit for bit."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.reference import (
    EOS,
    PAD,
    SHAPES,
    make,
    sentences,
    torch,
    transformers,
)
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.maps import marian
from tfm_jax.interop.safetensors_io import FILE, INDEX
from tfm_jax.layers.layout import to_scanned


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_gives_the_reference_back_bit_for_bit(shape, tmp_path):
    model = make(shape)
    model.save_pretrained(tmp_path / "theirs")
    found = load_huggingface(tmp_path / "theirs")
    save_huggingface(
        tmp_path / "ours",
        found.params,
        found.config,
        special=found.special,
        force_eos=True,
    )
    again, loading = transformers.MarianMTModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(loading.values()), loading
    expected, state = model.state_dict(), again.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], x) for name, x in expected.items())
    theirs = load_file(tmp_path / "theirs" / FILE)
    ours = load_file(tmp_path / "ours" / FILE)
    assert {n: x.shape for n, x in ours.items()} == {
        n: x.shape for n, x in theirs.items()
    }
    before, after = model.config.to_dict(), again.config.to_dict()
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"_name_or_path", "architectures", "dtype", "forced_eos_token_id"}
    assert again.generation_config.forced_eos_token_id == EOS
    assert again.generation_config.bad_words_ids == [[PAD]]
    assert again.generation_config.decoder_start_token_id == PAD
    assert load_huggingface(tmp_path / "ours")[3:] == (found.special, True, None)


def test_shards_and_one_file_hold_the_same(tmp_path):
    model = make("swish, one table")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    shards = list((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 1 and (tmp_path / "shards" / INDEX).exists()
    whole = load_huggingface(tmp_path / "whole").params
    found = load_huggingface(tmp_path / "shards").params
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    shards[0].unlink()
    with pytest.raises(FileNotFoundError, match=shards[0].name):
        load_huggingface(tmp_path / "shards")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_widened_exactly(dtype, tmp_path):
    model = make("gelu, nothing tied").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    found = load_huggingface(tmp_path)
    expected = model.model.encoder.layers[0].fc1.weight.detach().float().numpy()
    up = found.params["encoder"]["layer_0"]["ffn"]["up"]["kernel"]
    assert up.dtype == np.float32
    np.testing.assert_array_equal(up.T, expected)


def test_a_scanned_model_is_written_like_an_unrolled_one(tmp_path):
    model = make("swish, one table")
    model.save_pretrained(tmp_path / "theirs")
    found = load_huggingface(tmp_path / "theirs")
    save_huggingface(tmp_path / "ours", to_scanned(found.params), found.config)
    ours = load_file(tmp_path / "ours" / FILE)
    for name, x in load_file(tmp_path / "theirs" / FILE).items():
        np.testing.assert_array_equal(ours[name], x)


def test_copies_of_tied_tables_and_sinusoids_in_older_files_are_checked(tmp_path):
    model = make("swish, one table")
    model.save_pretrained(tmp_path)
    whole = {name: x.numpy() for name, x in model.state_dict().items()}
    assert {*marian.POSITIONS, "lm_head.weight"} <= set(whole)
    save_file(whole, tmp_path / FILE)
    found = load_huggingface(tmp_path)
    np.testing.assert_array_equal(
        found.params["embedding"]["table"], whole["lm_head.weight"]
    )
    save_file(whole | {"lm_head.weight": whole["lm_head.weight"] + 1}, tmp_path / FILE)
    with pytest.raises(ValueError, match="lm_head.weight differs from model.shared"):
        load_huggingface(tmp_path)
    name = marian.POSITIONS[0]
    save_file(whole | {name: whole[name][:, ::-1].copy()}, tmp_path / FILE)
    with pytest.raises(ValueError, match=f"{name} is not the sinusoid table"):
        load_huggingface(tmp_path)


def test_every_tensor_is_accounted_for(tmp_path):
    make("swish, one table").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / FILE)
    layer = "model.encoder.layers.1"
    del tensors[f"{layer}.fc1.bias"], tensors[f"{layer}.self_attn.q_proj.weight"]
    tensors["model.encoder.layers.2.fc1.bias"] = np.zeros(20, np.float32)
    tensors[f"{layer}.fc2.weight"] = tensors[f"{layer}.fc2.weight"].T.copy()
    tensors[marian.BIAS] = tensors[marian.BIAS].astype(np.int32)
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(ValueError) as error:
        load_huggingface(tmp_path)
    for line in (
        f"{layer}.fc1.bias is missing",
        f"{layer}.self_attn.q_proj.weight is missing",
        "model.encoder.layers.2.fc1.bias is unknown",
        f"{layer}.fc2.weight has shape (20, 24), not (24, 20)",
        f"{marian.BIAS} has dtype int32",
    ):
        assert line in str(error.value)


def test_logits_refuse_what_they_would_misread(tmp_path):
    model = make("relu, tied output")
    model.save_pretrained(tmp_path)
    found = load_huggingface(tmp_path)
    source = sentences(model.config, (3, 5))
    with pytest.raises(ValueError, match="source has padding 28 before a token"):
        found.logits(source[:, ::-1], [[PAD], [PAD]])
    with pytest.raises(ValueError, match="source has .*, outside of 0 .. 30"):
        found.logits(source + 20, [[PAD], [PAD]])
    with pytest.raises(ValueError, match="target has .*, outside of 0 .. 44"):
        found.logits(source, [[45], [-1]])
