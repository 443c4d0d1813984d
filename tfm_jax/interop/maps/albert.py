"""ALBERT in transformers.

Source: Lan et al. 2020, arXiv:1909.11942, as the ``Albert...`` classes of transformers
5. There a group of layers shares everything or nothing does, so that a model without
sharing is one of as many groups as layers, and is read as that; sharing of attention
alone or of the feed-forward alone has no counterpart.
Deviates from the reference: the row of the padding token in the table of words is
    trained like any other; dropout follows the feed-forward block, as in the paper,
    where the reference leaves it out.
"""

import dataclasses
import re

from tfm_jax.interop.maps import encoders
from tfm_jax.layers import sharing
from tfm_jax.models import albert

_GROUP = "albert.encoder.albert_layer_groups.{}.albert_layers.0"
LAYER = {  # our module -> the reference's in a group
    "self_attention/query": "attention.query",
    "self_attention/key": "attention.key",
    "self_attention/value": "attention.value",
    "self_attention/out": "attention.dense",
    "self_attention_residual/norm_after": "attention.LayerNorm",
    "ffn/up": "ffn",
    "ffn/down": "ffn_output",
    "ffn_residual/norm_after": "full_layer_layer_norm",
}


def _grouped(cfg):
    """A model without sharing is one of as many groups as layers."""
    if cfg.share == "none":
        cfg = dataclasses.replace(cfg, share="all", groups=cfg.depth, layout="unrolled")
    return dataclasses.replace(cfg, embedding_map="always") if cfg.maps else cfg


ALBERT = encoders.EncoderMap(
    model_type="albert",
    family=albert.FAMILY,
    architectures={
        "pretraining": "AlbertForPreTraining",
        "masked_lm": "AlbertForMaskedLM",
        "classify": "AlbertForSequenceClassification",
        "tag": "AlbertForTokenClassification",
        "span": "AlbertForQuestionAnswering",
        "states": "AlbertModel",
    },
    fields=encoders.FIELDS
    | {"embedding_width": "embedding_size", "groups": "num_hidden_groups"},
    fixed=encoders.FIXED | {"inner_group_num": 1},
    defaults=encoders.DEFAULTS
    | dict(
        hidden_size=4096,
        num_attention_heads=64,
        intermediate_size=16384,
        vocab_size=30000,
        embedding_size=128,
        num_hidden_groups=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu_new",
        classifier_dropout_prob=0.1,
    ),
    head_dropout="classifier_dropout_prob",
    modules={
        **{
            f"encoder/stack/layer_{{}}/{ours}": f"{_GROUP}.{theirs}"
            for ours, theirs in LAYER.items()
        },
        "encoder/embedding/word": (
            "albert.embeddings.word_embeddings",
            "predictions.decoder",
        ),
        "encoder/embedding/position": "albert.embeddings.position_embeddings",
        "encoder/embedding/type": "albert.embeddings.token_type_embeddings",
        "encoder/embedding/norm": "albert.embeddings.LayerNorm",
        "encoder/embedding/map": "albert.encoder.embedding_hidden_mapping_in",
        "head/lm/dense": "predictions.dense",
        "head/lm/norm": "predictions.LayerNorm",
        "head/lm/bias": ("predictions.bias", "predictions.decoder.bias"),
        "head/pooler/dense": "albert.pooler",
        "head/pair/out": "sop_classifier.classifier",
        "head/classify/out": "classifier",
        "head/tag/out": "classifier",
        "head/span/out": "qa_outputs",
    },
    beside=re.compile(
        r"(albert\.pooler|sop_classifier\.classifier)\.(weight|bias)|predictions\..*"
    ),
    number=lambda cfg, layer: sharing.group(layer, cfg.groups, cfg.depth),
    as_written=_grouped,
)
HUGGINGFACE = (ALBERT,)
