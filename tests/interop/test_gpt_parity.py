"""GPT-1, GPT-2 and GPT-Neo of transformers and the imported models compute the same."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.interop.text_reference import (
    NOT_ASKED,
    assert_parity,
    assert_round_trip,
    make,
    mean_cross_entropy,
    torch,
    transformers,
)
from tests.models.tiny_text import rows
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.continuing import best_continuations
from tfm_jax.decode.search import Search, TokenIds
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.maps.gpt import GPT1, GPT2, NEO
from tfm_jax.interop.safetensors_io import read
from tfm_jax.interop.tensors import storage
from tfm_jax.layers.layout import to_scanned
from tfm_jax.models.gpt import SIZES, Config

SHAPES = {
    "gpt1": (
        "OpenAIGPTLMHeadModel",
        GPT1,
        dict(n_embd=24, n_head=3, n_layer=2, n_positions=16, vocab_size=37),
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        GPT2,
        dict(n_embd=20, n_head=5, n_layer=2, n_positions=16, vocab_size=31, n_inner=7),
    ),
    "gpt2, nothing tied, no scale": (
        "GPT2LMHeadModel",
        GPT2,
        dict(n_embd=18, n_head=1, n_layer=1, n_positions=16, vocab_size=29)
        | dict(activation_function="relu", scale_attn_weights=False)
        | dict(tie_word_embeddings=False),
    ),
    "neo": (
        "GPTNeoForCausalLM",
        NEO,
        dict(hidden_size=24, num_heads=2, num_layers=3, vocab_size=23, window_size=4)
        | dict(max_position_embeddings=16)
        | dict(attention_types=[[["global", "local"], 1], [["local"], 1]]),
    ),
}
# the reference lets a query whose window holds padding alone see everything, so that
# no row here has as much padding as a window is wide
LENGTHS = (9, 11, 8)
SHORT = (1, 4, 3)


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported, the folder between, its name map)."""
    name, reference, fields = SHAPES[request.param]
    model = make(name, **fields)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "ln_" in path and path.endswith("weight"):
                parameter.add_(1.0)
    folder = tmp_path_factory.mktemp("gpt")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder, reference


def text(vocab, lengths):
    rng = np.random.default_rng(0)
    shape = (len(lengths), max(lengths))
    real = np.arange(shape[1]) < np.array(lengths)[:, None]
    tokens = np.where(real, rng.integers(1, vocab, shape), 0).astype(np.int32)
    return TextBatch(tokens, real.astype(np.int32))


def ask(model, batch, **more):
    return model(
        input_ids=torch.tensor(batch.tokens).long(),
        attention_mask=torch.tensor(batch.segments).long(),
        **more,
    )


def test_logits_loss_and_every_gradient_are_equal(pair):
    model, imported, _, reference = pair
    batch = text(imported.config.vocab, LENGTHS)
    labels = np.where(batch.segments > 0, batch.tokens, NOT_ASKED)
    wanted = ask(model, batch, labels=torch.tensor(labels).long())

    def loss_of(logits):
        return mean_cross_entropy(logits[:, :-1], labels[:, 1:])

    assert_parity(
        model,
        wanted.loss,
        [wanted.logits],
        imported,
        batch,
        reference.to_params,
        loss_of,
    )


def test_logits_of_short_rows_are_equal(pair):
    model, imported, _, _ = pair
    batch = text(imported.config.vocab, SHORT)
    with torch.no_grad():
        wanted = ask(model, batch).logits.numpy()
    found = imported.logits(batch.tokens, SHORT)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pair", ["gpt2", "neo"], indirect=True)
def test_logits_of_packed_rows_are_equal(pair):
    """The reference tells documents apart by positions that begin again."""
    model, imported, _, _ = pair
    batch = rows([[4, 7], [10, 1]])
    with torch.no_grad():
        wanted = model(
            input_ids=torch.tensor(batch.tokens).long(),
            position_ids=torch.tensor(batch.positions).long(),
            use_cache=False,  # with a cache it takes a row for one document
        ).logits.numpy()
    found = jax.jit(
        lambda params: imported.model.apply({"params": params}, batch, train=False)
    )(imported.params)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    model, imported, folder, _ = pair
    assert_round_trip(model, imported, folder, tmp_path / "new")
    save_huggingface(tmp_path / "scanned", to_scanned(imported.params), imported.config)
    scanned = read(tmp_path / "scanned")
    for name, tensor in read(tmp_path / "new").items():
        np.testing.assert_array_equal(scanned[name], tensor)


def test_files_of_the_bare_model_with_buffers_are_read(pair):
    """As the first conversions were: no prefix, and the masks beside the weights."""
    _, imported, folder, reference = pair
    tensors = read(folder)
    bare = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    bare |= {"h.0.attn.bias": np.ones((1, 1, 4, 4)), "h.1.attn.masked_bias": np.ones(1)}
    bare |= {"h.0.attn.attention.masked_bias": np.ones(1)}
    found = reference.to_params(imported.config, bare)
    jax.tree.map(np.testing.assert_array_equal, found, dict(imported.params))


def test_every_tensor_is_accounted_for(pair):
    _, imported, folder, reference = pair
    tensors = read(folder)
    first, *_ = [n for n in tensors if n.endswith("0.mlp.c_fc.weight")]
    del tensors[first]
    tensors["transformer.h.9.ln_1.bias"] = np.zeros(3, np.float32)
    attention, *_ = [n for n in tensors if "attn" in n and n.endswith("weight")]
    tensors[attention] = tensors[attention][:-1]
    with pytest.raises(ValueError) as error:
        reference.to_params(imported.config, tensors)
    for line in (
        f"{first} is missing",
        "transformer.h.9.ln_1.bias is unknown",
        f"{attention} has shape",
    ):
        assert str(error.value).count(line) == 1


PUBLISHED = {  # ours -> model_type
    "gpt1": "openai-gpt",
    "gpt2": "gpt2",
    "gpt2_xl": "gpt2",
    "neo_125m": "gpt_neo",
    "neo_2.7b": "gpt_neo",
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_configurations_survive_both_ways(size):
    reference = {r.model_type: r for r in (GPT1, GPT2, NEO)}[PUBLISHED[size]]
    config = Config(**SIZES[size], vocab=50_257)
    theirs = reference.write_config(config)
    found = reference.read_config(theirs)
    assert dataclasses.replace(config, embedding_dropout_on="vectors") == found
    cls = transformers.AutoConfig.for_model(**theirs)
    again = reference.read_config(cls.to_dict() | {"model_type": PUBLISHED[size]})
    assert again == found


@pytest.mark.parametrize("size", ["gpt1", "gpt2", "neo_1.3b"])
def test_published_sizes_have_the_reference_s_tensors(size):
    config = Config(**SIZES[size], vocab=50_257)
    config = dataclasses.replace(config, depth=2)
    for name, reference in (
        ("OpenAIGPTLMHeadModel", GPT1),
        ("GPT2LMHeadModel", GPT2),
        ("GPTNeoForCausalLM", NEO),
    ):
        try:
            theirs = reference.write_config(config)
        except ValueError:
            continue
        cls = getattr(transformers, name)
        with torch.device("meta"):
            model = cls(transformers.AutoConfig.for_model(**theirs))
        expected = {n: tuple(p.shape) for n, p in model.named_parameters()}
        stored = reference.table(config).values()
        assert {s.names[0]: s.shape for s in stored} == expected
        return
    raise AssertionError("no reference")


@pytest.mark.parametrize(
    ("reference", "change", "message"),
    [
        (GPT1, dict(afn="gelu_new"), "afn='gelu_new'; choose from (gelu,"),
        (GPT2, dict(n_embd=None), "n_embd=None must be an integer in 1 .."),
        (GPT2, dict(add_cross_attention=True), "add_cross_attention=True must be"),
        (
            GPT2,
            dict(scale_attn_by_inverse_layer_idx=True),
            "scale_attn_by_inverse_layer_idx=True must be False",
        ),
        (NEO, dict(num_layers=5), "must name 'global' or 'local' for num_layers=5"),
        (NEO, dict(attention_types=[[["far"], 3]]), "must name 'global' or 'local'"),
        (NEO, dict(model_type="gptj"), "model_type='gptj' must be 'gpt_neo'"),
    ],
)
def test_a_config_without_counterpart_is_refused(reference, change, message):
    sizes = {GPT1.model_type: "gpt1", GPT2.model_type: "gpt2"}
    size = sizes.get(reference.model_type, "neo_125m")
    theirs = reference.write_config(Config(**SIZES[size], vocab=11))
    with pytest.raises(ValueError) as error:
        reference.read_config(theirs | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(norm="sandwich"), "model.norm='sandwich' must be 'pre'"),
        (dict(positions="rotary"), "model.positions='rotary' must be 'learned'"),
        (dict(embedding_scale=True), "model.embedding_scale=True must be False"),
        (dict(windows=(2, 3), score="dot"), "must have one size beside 0"),
        (dict(windows=(0, 4)), "openai-gpt has no counterpart"),
        (dict(activation="swiglu"), "model.activation='swiglu'; choose from"),
        (dict(score="cosine"), "model.score='cosine'; choose from"),
        (dict(biases="none"), "model.biases='none' must be 'all'"),
        (dict(key_size=3), "model.key_size and model.value_size must be"),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message, tmp_path):
    with pytest.raises(ValueError) as error:
        save_huggingface(tmp_path / "new", {}, Config(vocab=11, **change))
    assert message in str(error.value)
    assert not (tmp_path / "new").exists()


def test_parts_of_one_tensor_come_back_in_order():
    parts = {
        k: storage.Stored(("whole",), (2, 6), (2, 2), part=(k, 3)) for k in range(3)
    }
    table = {f"part{k}": parts[k] for k in (2, 0, 1)}
    whole = np.arange(12, dtype=np.float32).reshape(2, 6)
    params = storage.to_params(table, {"whole": whole})
    np.testing.assert_array_equal(params["part1"], whole[:, 2:4])
    np.testing.assert_array_equal(storage.to_tensors(table, params)["whole"], whole)


@pytest.mark.parametrize("pair", ["gpt2", "neo"], indirect=True)
def test_greedy_continuations_are_those_of_the_reference(pair):
    model, imported, _, _ = pair
    prompt = [3, 7, 2, 9, 1]
    found = imported.generate([prompt, prompt[:2]], max_tokens=6, temperature=0.0)
    for row, n in enumerate((5, 2)):
        wanted = model.generate(
            torch.tensor([prompt[:n]]),
            attention_mask=torch.ones(1, n).long(),
            do_sample=False,
            max_new_tokens=6,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert found.tokens[row, 0].tolist() == wanted[0, n:].tolist()
    with pytest.raises(ValueError, match="prompt 1 has .*, outside of 0"):
        imported.generate([prompt, [99]], max_tokens=6)


@pytest.mark.parametrize("pair", ["gpt2", "neo"], indirect=True)
def test_the_best_continuations_are_those_of_the_reference(pair):
    """Beam search over prompts of different lengths; 4 ends a continuation."""
    model, imported, _, _ = pair
    prompts, eos = [[3, 7, 2, 9, 1], [8, 2]], 4
    how = Search(4, 0.0, 6, TokenIds(eos=eos, forbid=()), returned=4)
    found = best_continuations(imported.model, imported.params, prompts, how)
    for row, prompt in enumerate(prompts):
        wanted = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)).long(),
            **dict(num_beams=4, num_return_sequences=4, do_sample=False),
            **dict(length_penalty=0.0, early_stopping=False, max_new_tokens=6),
            **dict(eos_token_id=eos, pad_token_id=0),
        )
        for tokens, length, other in zip(
            found.tokens[row], found.lengths[row], wanted, strict=True
        ):
            assert tokens[:length].tolist() == other[len(prompt) :][:length].tolist()
            assert {*other[len(prompt) + length :].tolist()} <= {0, eos}  # filled up
