"""Models of torch.nn.GRU and LSTM and the imported ones compute the same."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.interop import torch_bentrevett
from tests.interop.text_reference import NOT_ASKED, mean_cross_entropy, torch
from tfm_jax.data.batch import PairBatch
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.interop import (
    from_torch_rnn,
    load_huggingface,
    save_huggingface,
    to_torch_rnn,
)
from tfm_jax.interop.__main__ import main
from tfm_jax.interop.maps.rnn_seq2seq import RNN_SEQ2SEQ
from tfm_jax.interop.safetensors_io import read
from tfm_jax.interop.tokenizer_files import PAIRS
from tfm_jax.models.rnn_seq2seq import SIZES, Config, RNNSeq2Seq
from tfm_jax.notebook import load_run

NARROW = dict(width=7, embedding_width=5, source_vocab=13, target_vocab=11)
ONE_WAY = dict(bidirectional=False, bridge="copy")
CURRENT = dict(query="current")
KINDS = {
    "gru, no attention": dict(score="none", context="every_step", readout="plain"),
    "lstm, two layers each": dict(
        **dict(cell="lstm", score="none", readout="plain", source_order="reversed"),
        **dict(encoder_depth=2, decoder_depth=2, **ONE_WAY),
    ),
    "additive": dict(readout="maxout", bridge="tanh_backward", alignment_width=3),
    "additive, two layers of lstm": dict(
        **dict(cell="lstm", encoder_depth=2, decoder_depth=2, output_bias=False)
    ),
    "concat": dict(score="concat", readout="plain_with_embedding", bridge="zeros"),
    "dot": dict(score="dot", decoder_depth=1, encoder_depth=2, **CURRENT, **ONE_WAY),
    "general, fed": dict(
        **dict(score="general", cell="lstm", input_feeding=True, decoder_depth=2),
        **dict(tie="two_way", readout_width=5, **CURRENT),
    ),
    "additive, fed, one table": dict(
        **dict(input_feeding=True, tie="three_way", readout_width=5, source_vocab=11),
    ),
}
SOURCE, TARGET = (6, 1, 4, 2, 6), (1, 5, 3, 4, 2)  # padding, and rows of one token


def randomised(model):
    """In float64, with random numbers in every tensor."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return model.double().eval()


def pairs(cfg, sources, targets, seed=0):
    """A ``PairBatch`` of random tokens, padded on the right."""
    rng, arrays = np.random.default_rng(seed), []
    for vocab, lengths in ((cfg.source_vocab, sources), (cfg.target_vocab, targets)):
        real = np.arange(max(lengths)) < np.array(lengths)[:, None]
        tokens = np.where(real, rng.integers(2, vocab, real.shape), 0)
        arrays += [tokens.astype(np.int32), real.astype(np.int32)]
    source, s_real, labels, t_real = arrays
    inputs = np.concatenate([np.ones_like(labels[:, :1]), labels[:, :-1]], axis=1)
    return PairBatch(source, s_real, None, inputs, labels, t_real, None)


def loss_of(batch, logits):
    labels = np.where(batch.target_segments > 0, batch.target_labels, NOT_ASKED)
    return mean_cross_entropy(logits, labels)


def assert_parity(model, logits, batch, cfg, tensors):
    """Logits, loss and every gradient are those of a model in torch.

    Args:
        logits: of ``model``, a tensor. tensors: by our names, of its parameters by
            its own: ``tensors(name -> array)``.
    """
    real = torch.tensor(batch.target_segments > 0)
    labels = torch.tensor(batch.target_labels).long()
    loss = torch.nn.functional.cross_entropy(logits[real], labels[real])
    loss.backward()
    params = RNN_SEQ2SEQ.to_params(cfg, tensors(state(model)))
    grads = tensors({n: p.grad.numpy() for n, p in model.named_parameters()})
    expected = flatten_dict(RNN_SEQ2SEQ.to_params(cfg, of_sums(cfg, grads)), sep="/")

    def run(params):
        y = RNNSeq2Seq(cfg).apply({"params": params}, batch, train=False)
        return loss_of(batch, y), y

    run = jax.jit(jax.value_and_grad(run, has_aux=True))
    (actual_loss, actual_logits), actual = jax.device_get(run(params))
    wanted = logits.detach().numpy()
    assert wanted.std() > 0.1
    np.testing.assert_allclose(actual_logits, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(actual_loss, loss.item(), rtol=0, atol=1e-5)
    actual = flatten_dict(actual, sep="/")
    assert actual.keys() == expected.keys()
    for path, grad in expected.items():
        scale = np.abs(grad).max()
        assert scale > 0 and np.abs(actual[path] - grad).max() <= 1e-4 * scale, path


def of_sums(cfg, grads):
    """Gradients of sums of two biases: each has that of the sum."""
    own = cfg.width if cfg.cell == "gru" else 0
    for name, x in grads.items():
        if "bias_hh" in name:
            x[: len(x) - own] = 0
    return grads


def state(model):
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def recurrent(cfg):
    from benchmarks.torch_rnn import TorchRecurrent

    return TorchRecurrent(dataclasses.asdict(cfg))


@functools.cache
def made(kind):
    """(model in torch, our configuration)."""
    cfg = Config(**NARROW | KINDS[kind])
    return randomised(recurrent(cfg)), cfg


@pytest.mark.parametrize("kind", KINDS)
def test_logits_loss_and_every_gradient_are_those_of_torch(kind):
    model, cfg = made(kind)
    batch = pairs(cfg, SOURCE, TARGET)
    model.zero_grad()
    logits = model(torch.tensor(batch.source), torch.tensor(batch.target_inputs))
    assert_parity(model, logits, batch, cfg, lambda arrays: arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_goes_out_and_in_and_torch_reads_it(kind, tmp_path):
    model, cfg = made(kind)
    model = model.float()
    params = RNN_SEQ2SEQ.to_params(cfg, state(model))
    save_huggingface(tmp_path, params, cfg)
    imported = load_huggingface(tmp_path)
    assert imported.config == cfg
    jax.tree.map(np.testing.assert_array_equal, imported.params, params)
    again = recurrent(cfg).eval()
    tensors = RNN_SEQ2SEQ.to_tensors(cfg, imported.params)
    absent, unknown = again.load_state_dict(
        {name: torch.tensor(x) for name, x in tensors.items()}, strict=False
    )
    assert not unknown and set(absent) <= {"decoder.output.weight"} & {
        "decoder.output.weight" if cfg.tie != "none" else ""
    }
    batch = pairs(cfg, SOURCE, TARGET)
    inputs = (batch.source, batch.target_inputs)
    with torch.no_grad():
        one, other = (m(*map(torch.tensor, inputs)) for m in (again, model))
    torch.testing.assert_close(one, other, rtol=0, atol=2e-6)
    model.double()


@pytest.mark.parametrize("rung", torch_bentrevett.RUNGS)
def test_the_notebooks_of_trevett_compute_the_same(rung):
    cfg = Config(**SIZES[rung] | NARROW)
    build, names = torch_bentrevett.RUNGS[rung]
    model = randomised(build(cfg))
    lengths = (4,) * 3  # pads are not masked there
    batch = pairs(cfg, lengths, (5, 2, 3))
    logits = model(
        torch.tensor(batch.source).T, torch.tensor(batch.target_inputs).T
    ).transpose(0, 1)
    assert_parity(model, logits, batch, cfg, functools.partial(names, cfg))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("both", [False, True])
def test_layers_of_torch_are_layers_here_and_again_of_torch(cell, both):
    layers = getattr(torch.nn, cell.upper())(5, 3, 2, bidirectional=both)
    tensors = layers.state_dict()
    params = from_torch_rnn(tensors)
    assert params.keys() == {"layer_0", "layer_1"}
    assert params["layer_0"].keys() == (
        {"forward", "backward"} if both else {"forward"}
    )
    again = to_torch_rnn(params)
    assert again.keys() == tensors.keys()
    layers.load_state_dict({name: torch.tensor(x) for name, x in again.items()})
    jax.tree.map(
        np.testing.assert_array_equal, from_torch_rnn(layers.state_dict()), params
    )
    for name, x in again.items():
        kind = name.partition("_l")[0]
        if kind.startswith("weight"):
            np.testing.assert_array_equal(x, tensors[name])
        if kind == "bias_hh":
            own = len(x) - 3 * (cell == "gru")
            assert not x[:own].any() and x[own:].all()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (dict(bias=False), "bias_ih_l0 is missing"),
        (dict(proj_size=2), "weight_hr_l0 is unknown|not those of a torch.nn.GRU"),
    ],
)
def test_what_is_no_layer_here_is_refused_in_one_line(made, words):
    with pytest.raises(ValueError, match=words) as refusal:
        from_torch_rnn(torch.nn.LSTM(5, 4, **made).state_dict())
    assert "\n" not in str(refusal.value)


def test_a_configuration_that_is_not_whole_is_refused():
    whole = RNN_SEQ2SEQ.write_config(Config(**NARROW))
    assert dataclasses.replace(RNN_SEQ2SEQ.read_config(whole), init="glorot") == Config(
        **NARROW
    )
    for changed, words in (
        ({"cell": "elman"}, "model.cell='elman'; choose from"),
        ({"width": "7"}, "model.width"),
        ({"encoder_depth": 10**6}, "encoder_depth=1000000 must be an integer in 1 .."),
    ):
        with pytest.raises(ValueError, match=words):
            RNN_SEQ2SEQ.read_config(whole | changed)
    del whole["score"]
    with pytest.raises(ValueError, match="score is missing"):
        RNN_SEQ2SEQ.read_config(whole)


def test_a_folder_is_a_run_and_a_folder_again(tmp_path, capsys):
    cfg = bilingual.Config(kind="character")
    tokenizer = bilingual.train_tokenizer(cfg, ["one two"], ["eins zwei"])
    vocabularies = dict(source_vocab=tokenizer.source_vocab)
    vocabularies |= dict(target_vocab=tokenizer.target_vocab)
    cfg = Config(**NARROW | KINDS["dot"] | vocabularies)
    params = RNN_SEQ2SEQ.to_params(cfg, state(randomised(recurrent(cfg)).float()))
    save_huggingface(tmp_path / "one", params, cfg)
    tokenizer.save(tmp_path / "one" / PAIRS)
    folders = [str(tmp_path / name) for name in ("one", "run", "two")]
    assert main(["import", *folders[:2]]) == 0
    run = load_run(folders[1])
    assert run.config.model == cfg and run.config.task == "translation"
    jax.tree.map(np.testing.assert_array_equal, run.params, params)
    assert main(["export", *folders[1:]]) == 0
    jax.tree.map(np.testing.assert_array_equal, read(folders[2]), read(folders[0]))
    assert load_huggingface(folders[2])[0] == cfg
    assert main(["verify", folders[2]]) == 78
    assert "which transformers has not" in capsys.readouterr().err
