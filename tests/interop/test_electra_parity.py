"""ELECTRA's towers of transformers and the imported ones compute the same."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.interop.text_reference import assert_heads_agree, assert_round_trip, make
from tests.models.test_electra import EQUAL, SMALL
from tests.models.tiny_text import rows, run, sizes, tiny
from tfm_jax.interop import load_huggingface
from tfm_jax.interop.maps.electra import ELECTRA
from tfm_jax.models import electra as ours

SHAPES = {
    "discriminator, narrow tables": dict(
        name="ElectraForPreTraining",
        **dict(hidden_size=24, num_attention_heads=3, intermediate_size=20),
        **dict(vocab_size=37, embedding_size=10),
    ),
    "discriminator": dict(
        name="ElectraForPreTraining",
        **dict(hidden_size=20, num_attention_heads=5, intermediate_size=36),
        **dict(vocab_size=31, embedding_size=20),
    ),
    "generator, wide tables": dict(
        name="ElectraForMaskedLM",
        **dict(hidden_size=18, num_attention_heads=1, intermediate_size=7),
        **dict(vocab_size=41, embedding_size=25),
    ),
    "tags": dict(
        name="ElectraForTokenClassification",
        **dict(hidden_size=16, num_attention_heads=2, intermediate_size=8),
        **dict(vocab_size=13, embedding_size=10, num_labels=5),
    ),
    "spans": dict(
        name="ElectraForQuestionAnswering",
        **dict(hidden_size=16, num_attention_heads=2, intermediate_size=8),
        **dict(vocab_size=13, embedding_size=16),
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported from the folder it wrote, the folder)."""
    fields = dict(max_position_embeddings=12, num_hidden_layers=2)
    model = make(**SHAPES[request.param], **fields)
    folder = tmp_path_factory.mktemp("electra")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder


def test_logits_loss_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    assert_heads_agree(model, imported, ELECTRA.to_params)


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    assert_round_trip(*pair, tmp_path / "new")


@pytest.mark.parametrize("share", ours.SHARES)
def test_towers_that_were_trained_jointly_are_written_one_by_one(share):
    model, params = tiny(ours, share=share, **(EQUAL if share == "all" else SMALL))
    batch = rows([5, 3])
    whole = run(model, params, batch)
    for head, wanted in (("masked_lm", whole.lm_logits), ("replaced", whole.scores)):
        cfg, tower = ours.part(model.cfg, params, head)
        assert jax.tree.structure(tower) == jax.tree.structure(
            ELECTRA.to_params(cfg, ELECTRA.to_tensors(cfg, tower))
        )
        alone = ours.Electra(cfg)
        assert sum(sizes(alone).values()) == sum(x.size for x in jax.tree.leaves(tower))
        np.testing.assert_allclose(run(alone, tower, batch), wanted, atol=1e-5)
        read = ELECTRA.read_config(ELECTRA.write_config(cfg))
        assert read.width == (cfg.width if head == "replaced" else cfg.generator_width)


def test_a_joint_model_has_no_counterpart():
    cfg = ours.Config(vocab=11)
    with pytest.raises(ValueError, match="model.head='pretraining'; choose from"):
        ELECTRA.write_config(cfg)
    with pytest.raises(ValueError, match="model.share='tokens' with model.head"):
        ELECTRA.write_config(dataclasses.replace(cfg, head="masked_lm"))
    alone = dataclasses.replace(cfg, head="masked_lm", share="none", activation="relu")
    with pytest.raises(ValueError, match="model.activation='relu' with model.head"):
        ELECTRA.write_config(alone)
