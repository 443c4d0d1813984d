"""ALBERT of transformers and the imported model compute the same."""

import dataclasses
import itertools
import types

import pytest

from tests.interop.text_reference import (
    assert_heads_agree,
    assert_round_trip,
    make,
    torch,
)
from tests.models.tiny_text import sizes
from tfm_jax.interop import load_huggingface
from tfm_jax.interop.maps.albert import ALBERT
from tfm_jax.layers.sharing import group
from tfm_jax.models.albert import Albert, Config

modeling_albert = pytest.importorskip("transformers.models.albert.modeling_albert")

SHAPES = {
    "one group": dict(
        name="AlbertForPreTraining",
        **dict(hidden_size=24, num_attention_heads=3, intermediate_size=20),
        **dict(vocab_size=37, embedding_size=10, num_hidden_layers=3),
    ),
    "two groups, tables as wide as layers": dict(
        name="AlbertForMaskedLM",
        **dict(hidden_size=20, num_attention_heads=5, intermediate_size=36),
        **dict(vocab_size=31, embedding_size=20, num_hidden_layers=3),
        **dict(num_hidden_groups=2),
    ),
    "as many groups as layers": dict(
        name="AlbertForSequenceClassification",
        **dict(hidden_size=18, num_attention_heads=1, intermediate_size=7),
        **dict(vocab_size=41, embedding_size=5, num_hidden_layers=2),
        **dict(num_hidden_groups=2, num_labels=3, hidden_act="relu"),
    ),
    "tags": dict(
        name="AlbertForTokenClassification",
        **dict(hidden_size=12, num_attention_heads=2, intermediate_size=10),
        **dict(vocab_size=29, embedding_size=6, num_hidden_layers=2, num_labels=4),
    ),
    "spans": dict(
        name="AlbertForQuestionAnswering",
        **dict(hidden_size=12, num_attention_heads=3, intermediate_size=10),
        **dict(vocab_size=29, embedding_size=7, num_hidden_layers=2),
    ),
}
SMALL = Config(
    **dict(width=8, heads=2, ffn_width=6, depth=3, vocab=11, embedding_width=4)
)


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported from the folder it wrote, the folder)."""
    model = make(**SHAPES[request.param], max_position_embeddings=12)
    folder = tmp_path_factory.mktemp("albert")
    model.save_pretrained(folder)
    return model, load_huggingface(folder), folder


def test_logits_loss_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    assert_heads_agree(model, imported, ALBERT.to_params)


def test_what_is_written_again_is_the_same_bit_for_bit(pair, tmp_path):
    assert_round_trip(*pair, tmp_path / "new")


def test_a_model_without_sharing_is_one_of_as_many_groups_as_layers():
    plain = dataclasses.replace(SMALL, share="none")
    values = ALBERT.write_config(plain)
    assert values["num_hidden_groups"] == 3
    found = ALBERT.read_config(values)
    assert (found.share, found.groups) == ("all", 3)
    assert sizes(Albert(found)) == sizes(Albert(plain))
    assert ALBERT.read_config(ALBERT.write_config(SMALL)) == SMALL


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(share="ffn"), "model.share='ffn' must be 'all'"),
        (
            dict(embedding_width=8, embedding_map="where_needed"),
            "model.embedding_map='where_needed' must be 'always'",
        ),
    ],
)
def test_a_model_without_counterpart_is_not_written(change, message):
    with pytest.raises(ValueError) as error:
        ALBERT.write_config(dataclasses.replace(SMALL, **change))
    assert message in str(error.value)


def test_layers_repeated_within_a_group_are_refused():
    with pytest.raises(ValueError, match="inner_group_num=2 must be 1"):
        ALBERT.read_config(ALBERT.write_config(SMALL) | {"inner_group_num": 2})


def test_layers_are_grouped_as_the_references_are():
    """Theirs is floating point: ``int(layer / (depth / groups))``."""
    differ = []
    for depth, groups in itertools.combinations_with_replacement(range(24, 0, -1), 2):
        asked = []
        theirs = types.SimpleNamespace(
            config=types.SimpleNamespace(
                num_hidden_layers=depth, num_hidden_groups=groups
            ),
            embedding_hidden_mapping_in=lambda x: x,
            albert_layer_groups=[
                lambda x, mask, n=n, asked=asked: asked.append(n) or x
                for n in range(groups)
            ],
        )
        modeling_albert.AlbertTransformer.forward(theirs, torch.zeros(1))
        assert asked == [group(layer, groups, depth) for layer in range(depth)]
        even = [layer * groups // depth for layer in range(depth)]
        differ += [(depth, groups)] if asked != even else []
    assert differ == [(18, 14)]  # so that the rule is seen
