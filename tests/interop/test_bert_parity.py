"""BERT of transformers and the imported model compute the same."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests.interop.text_reference import assert_heads_agree, assert_round_trip, make
from tfm_jax.interop import load_huggingface
from tfm_jax.interop.maps.bert import BERT
from tfm_jax.interop.safetensors_io import read
from tfm_jax.models.bert import Config

SMALL = Config(width=8, heads=2, ffn_width=6, depth=1, vocab=11, labels=3)
COMMON = dict(max_position_embeddings=12, num_hidden_layers=2, hidden_act="gelu")
SHAPES = {
    "BertForPreTraining": dict(
        hidden_size=24, num_attention_heads=3, intermediate_size=20, vocab_size=37
    ),
    "BertForMaskedLM": dict(
        hidden_size=20, num_attention_heads=5, intermediate_size=36, vocab_size=31
    ),
    "BertForNextSentencePrediction": dict(
        hidden_size=16, num_attention_heads=2, intermediate_size=8, vocab_size=13
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
    assert_heads_agree(model, imported, BERT.to_params)


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    assert_round_trip(*pair, tmp_path / "new")


def test_heads_that_a_class_does_without_and_buffers_are_left_out(pair):
    model, imported, folder = pair
    tensors, places = read(folder), {"bert.embeddings.position_ids": np.arange(12)}
    width = model.config.hidden_size
    pooler = {"weight": np.ones((width, width)), "bias": np.ones(width)}
    more = {f"bert.pooler.dense.{name}": x for name, x in pooler.items()}
    has_pooler = any(name.startswith("bert.pooler") for name in tensors)
    more = places if has_pooler else places | more
    params = BERT.to_params(imported.config, more | tensors)
    assert jax.tree.structure(params) == jax.tree.structure(imported.params)
    old = {re.sub(r"Norm\.weight$", "Norm.gamma", n): x for n, x in tensors.items()}
    assert set(old) != set(tensors)
    jax.tree.map(
        np.testing.assert_array_equal, BERT.to_params(imported.config, old), params
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"is_decoder": True}, "is_decoder=True must be False"),
        (
            {"architectures": ["BertForMultipleChoice"]},
            "architectures='BertForMultipleChoice'; choose from",
        ),
        ({"hidden_act": "quick_gelu"}, "'quick_gelu'; choose from (relu,"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type='relative_key' must be 'absolute'",
        ),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False must be True"),
        ({"num_attention_heads": 5}, "model.heads=5 must divide model.width=8"),
    ],
)
def test_a_config_without_counterpart_is_refused(change, message):
    with pytest.raises(ValueError) as error:
        BERT.read_config(BERT.write_config(SMALL) | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(norm="pre"), "model.norm='pre' must be 'post'"),
        (dict(pool="mean"), "model.pool='mean' must be 'first'"),
        (dict(positions="rotary"), "model.positions='rotary' must be 'learned'"),
        (dict(activation="geglu"), "model.activation='geglu'; choose from"),
        (dict(key_size=3), "model.key_size and model.value_size must be"),
        (dict(activation_dropout=0.1), "model.activation_dropout=0.1 must be 0.0"),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message):
    with pytest.raises(ValueError) as error:
        BERT.write_config(dataclasses.replace(SMALL, **change))
    assert message in str(error.value)


def test_configurations_survive_both_ways_and_older_files_leave_fields_out():
    values = BERT.write_config(SMALL)
    assert BERT.read_config(values) == SMALL
    values |= {"hidden_dropout_prob": 0, "classifier_dropout": None}
    del values["id2label"], values["tie_word_embeddings"]
    found = BERT.read_config(values)
    assert (found.dropout, found.head_dropout, found.labels) == (0.0, 0.0, 2)
    del values["hidden_size"], values["vocab_size"], values["architectures"]
    found = BERT.read_config(values)  # as transformers' own defaults
    assert (found.width, found.vocab, found.head) == (768, 30_522, "states")
