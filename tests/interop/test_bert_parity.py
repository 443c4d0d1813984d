"""BERT of transformers and the imported model compute the same."""

import numpy as np
import pytest

from tests.interop.text_reference import (
    BLIND,
    ask,
    assert_parity,
    make,
    mean_cross_entropy,
    text,
    torch,
    word_labels,
)
from tfm_jax.interop import bert, load_huggingface, save_huggingface
from tfm_jax.interop.safetensors_io import read

COMMON = dict(max_position_embeddings=12, num_hidden_layers=2, hidden_act="gelu")
SHAPES = {
    "BertForPreTraining": dict(
        hidden_size=24, num_attention_heads=3, intermediate_size=20, vocab_size=37
    ),
    "BertForMaskedLM": dict(
        hidden_size=20, num_attention_heads=5, intermediate_size=36, vocab_size=31
    ),
    "BertForSequenceClassification": dict(
        hidden_size=18, num_attention_heads=1, intermediate_size=7, vocab_size=41
    )
    | dict(num_labels=3, type_vocab_size=3),
    "BertForTokenClassification": dict(
        hidden_size=16, num_attention_heads=2, intermediate_size=8, vocab_size=13
    )
    | dict(num_labels=5),
    "BertForQuestionAnswering": dict(
        hidden_size=16, num_attention_heads=2, intermediate_size=8, vocab_size=13
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported from the folder it wrote, the folder)."""
    model = make(request.param, **(COMMON | SHAPES[request.param]))
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder


def test_logits_loss_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    batch = text(model.config.vocab_size)
    words = word_labels(batch, model.config.vocab_size)
    rows = np.array([0, 1, 1, 0])
    tags = np.where(words < 0, words, words % model.config.num_labels)
    starts, ends = np.array([[3, 0, 2, 10], [5, 0, 2, 10]])

    def pretraining(y):
        return mean_cross_entropy(y.words, words) + mean_cross_entropy(y.pair, rows)

    def span(y):
        start, end = y[:, 0], y[:, 1]
        return (mean_cross_entropy(start, starts) + mean_cross_entropy(end, ends)) / 2

    asked = {  # labels for the reference, names of its outputs, our loss
        "pretraining": (
            dict(labels=words, next_sentence_label=rows),
            ("prediction_logits", "seq_relationship_logits"),
            pretraining,
        ),
        "masked_lm": (
            dict(labels=words),
            ("logits",),
            lambda y: mean_cross_entropy(y, words),
        ),
        "classify": (
            dict(labels=rows),
            ("logits",),
            lambda y: mean_cross_entropy(y, rows),
        ),
        "tag": (dict(labels=tags), ("logits",), lambda y: mean_cross_entropy(y, tags)),
        "span": (
            dict(start_positions=starts, end_positions=ends),
            ("start_logits", "end_logits"),
            span,
        ),
    }
    labels, outputs, loss_of = asked[imported.config.head]
    found = ask(model, batch, **labels)
    arrays = [found[name] for name in outputs]
    blind = BLIND
    if imported.config.head == "span":
        arrays = [torch.stack(arrays, 1)]
        # softmax over the tokens does not see what all of them have in common
        blind += ("layer_1/ffn_residual/norm_after/bias", "span/out/bias")
    assert_parity(
        model, found.loss, arrays, imported, batch, bert.to_params, loss_of, blind
    )


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    model, imported, folder = pair
    save_huggingface(tmp_path / "new", imported.params, imported.config)
    again = type(model).from_pretrained(tmp_path / "new")
    before, after = model.state_dict(), again.state_dict()
    assert set(before) == set(after)
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name].numpy(), tensor.numpy(), name)
    written = read(tmp_path / "new")
    assert set(written) == set(read(folder))
    assert load_huggingface(tmp_path / "new").config == imported.config
