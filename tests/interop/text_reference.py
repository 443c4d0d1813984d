"""Tiny encoders of transformers with random weights, rows of text, and comparisons."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tfm_jax.data.batch import TextBatch
from tfm_jax.interop import load_huggingface, save_huggingface
from tfm_jax.interop.safetensors_io import read

torch = pytest.importorskip("torch", reason="torch is the reference")
transformers = pytest.importorskip("transformers", reason="so is transformers")

LENGTHS = (7, 1, 4, 11)  # padding, and a row of one token
NOT_ASKED = -100  # label of the reference's where nothing is asked


def make(name, **fields):
    """A model in evaluation mode whose every tensor is random, also norms and biases.

    Padding tokens get gradients like any other, which the reference keeps from them.
    """
    cls = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(attn_implementation="eager", **fields)).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            is_scale = "norm" in path.lower() and path.endswith("weight")
            centre = 1.0 if is_scale else 0.0
            parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    return model


def text(vocab, lengths=LENGTHS, seed=0):
    """Rows of two sentences each, padded on the right, as a ``TextBatch``."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    real = np.arange(shape[1]) < np.array(lengths)[:, None]
    tokens = np.where(real, rng.integers(1, vocab, shape), 0).astype(np.int32)
    types = (real & (np.arange(shape[1]) > np.array(lengths)[:, None] // 2)).astype(
        np.int32
    )
    return TextBatch(tokens, real.astype(np.int32), types=types)


def word_labels(batch, vocab, seed=1):
    """[B, T] int64: a word at every other token, at least one in a row."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, vocab, batch.tokens.shape)
    asked = (np.arange(labels.shape[1]) % 2 == 0) & (batch.segments > 0)
    return np.where(asked, labels, NOT_ASKED)


def ask(model, batch, **labels):
    """What the reference returns for a batch."""
    return model(
        input_ids=torch.tensor(batch.tokens).long(),
        attention_mask=torch.tensor(batch.segments).long(),
        token_type_ids=torch.tensor(batch.types).long(),
        **{name: torch.tensor(x).long() for name, x in labels.items()},
    )


def mean_cross_entropy(logits, labels):
    """Over the labels that are asked for; written as its definition, in float32."""
    asked = labels != NOT_ASKED
    score = jax.nn.log_softmax(logits)
    picked = jax.numpy.take_along_axis(score, (labels * asked)[..., None], -1)[..., 0]
    return -(picked * asked).sum() / asked.sum()


# softmax over keys does not see their bias: all of its gradient is rounding
BLIND = ("key/bias",)


def assert_parity(
    reference, loss, outputs, imported, batch, to_params, loss_of, blind=BLIND
):
    """Outputs, loss and the gradient of every parameter are the reference's.

    Args:
        loss: of the reference, a scalar tensor. outputs: its arrays, in our order.
        to_params: from tensors by the reference's names to our tree.
        loss_of: our outputs -> our loss.
        blind: how parameters end whose gradient is zero in exact arithmetic.
    """
    reference.zero_grad()
    loss.backward()
    grads = {n: p.grad.numpy() for n, p in reference.named_parameters()}
    expected = flatten_dict(to_params(imported.config, grads), sep="/")

    def run(params):
        y = imported.model.apply({"params": params}, batch, train=False)
        return loss_of(y), y

    run = jax.jit(jax.value_and_grad(run, has_aux=True))
    (found_loss, found_outputs), found = jax.device_get(run(imported.params))
    for y, wanted in zip(jax.tree.leaves(found_outputs), outputs, strict=True):
        wanted = wanted.detach().numpy()
        assert y.shape == wanted.shape and wanted.std() > 0.1
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found_loss, loss.item(), rtol=0, atol=1e-5)
    found = flatten_dict(found, sep="/")
    assert set(found) == set(expected)
    largest = max(np.abs(x).max() for x in expected.values())
    for path, grad in expected.items():
        noise = 1e-6 * largest if path.endswith(blind) else 0.0
        scale = np.abs(grad).max()
        error = np.abs(found[path] - grad).max()
        assert error <= 1e-4 * scale + noise, f"{path}: {error} of {scale}"


def assert_heads_agree(model, imported, to_params):
    """``assert_parity`` for the head that ``imported`` has, with labels for it."""
    vocab, head = model.config.vocab_size, imported.config.head
    batch = text(vocab)
    words = word_labels(batch, vocab)
    rows = np.array([0, 1, 1, 0])
    tags = np.where(words < 0, words, words % model.config.num_labels)
    starts, ends = np.array([[3, 0, 2, 10], [5, 0, 2, 10]])
    pair = "sop" if model.config.model_type == "albert" else "seq_relationship"
    pair_label = "sentence_order" if pair == "sop" else "next_sentence"
    cross_entropy = mean_cross_entropy

    def of_words_and_pair(y):
        return cross_entropy(y.lm_logits, words) + cross_entropy(y.pair, rows)

    def of_span(y):
        return (cross_entropy(y[:, 0], starts) + cross_entropy(y[:, 1], ends)) / 2

    asked = {  # labels for the reference, names of its outputs, our loss
        "pretraining": (
            {"labels": words, f"{pair_label}_label": rows},
            ("prediction_logits", f"{pair}_logits"),
            of_words_and_pair,
        ),
        "masked_lm": (
            {"labels": words},
            ("logits",),
            lambda y: cross_entropy(y, words),
        ),
        "pair": ({"labels": rows}, ("logits",), lambda y: cross_entropy(y, rows)),
        "classify": ({"labels": rows}, ("logits",), lambda y: cross_entropy(y, rows)),
        "tag": ({"labels": tags}, ("logits",), lambda y: cross_entropy(y, tags)),
        "span": (
            {"start_positions": starts, "end_positions": ends},
            ("start_logits", "end_logits"),
            of_span,
        ),
        "replaced": (
            {"labels": tags},
            ("logits",),
            lambda y: binary_cross_entropy(y, tags, batch.segments),
        ),
    }
    if head == "replaced":
        tags = np.random.default_rng(2).integers(0, 2, batch.tokens.shape)
        asked = {head: ({"labels": tags}, *asked[head][1:])}
    labels, outputs, loss_of = asked[head]
    # in float32 the reference itself is off by 8e-6 where a norm magnifies rounding
    model.double()
    found = ask(model, batch, **labels)
    arrays, blind = [found[name] for name in outputs], BLIND
    if head == "span":
        arrays = [torch.stack(arrays, 1)]
        # softmax over the tokens does not see what all of them have in common
        last = imported.config.depth - 1
        blind += (f"layer_{last}/ffn_residual/norm_after/bias", "span/out/bias")
    assert_parity(model, found.loss, arrays, imported, batch, to_params, loss_of, blind)
    model.float()


def binary_cross_entropy(logits, labels, real):
    """Mean over real tokens, of logits [B, T]."""
    score = jax.nn.log_sigmoid(np.where(labels, 1.0, -1.0) * logits)
    return -(score * real).sum() / real.sum()


def assert_round_trip(model, imported, folder, new, renamed=None):
    """Written to the folder ``new``, the model is the reference's bit for bit.

    Args: renamed: tensors of the reference's file -> their copies, which we write.
    """
    save_huggingface(new, imported.params, imported.config)
    again = type(model).from_pretrained(new)
    before, after = model.state_dict(), again.state_dict()
    assert set(before) == set(after)
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name].numpy(), tensor.numpy(), name)
    assert set(read(new)) == {(renamed or {}).get(n, n) for n in read(folder)}
    assert load_huggingface(new).config == imported.config
