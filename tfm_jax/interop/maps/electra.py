"""ELECTRA in transformers.

Source: Clark et al. 2020, arXiv:2003.10555, as ``ElectraForPreTraining``, which is the
discriminator, and ``ElectraForMaskedLM``, the generator, of transformers 5. It has no
class for both: ``models.electra.part`` takes either out of what was trained jointly.
The head "classify" has no counterpart: ``ElectraForSequenceClassification`` has a dense
map and GELU before that to the labels.
Deviates from the reference: the row of the padding token in the table of words is
    trained like any other, there it gets no gradient as an input.
"""

import dataclasses

from tfm_jax.interop.maps import encoders
from tfm_jax.interop.maps.bert import ENCODER, LAYER
from tfm_jax.models import electra

_SIZES = ("width", "heads", "ffn_width", "depth")


def _as_read(cfg):
    """Of the generator's sizes a folder says those of what it holds."""
    _check_activation(cfg)
    same = {f"generator_{name}": getattr(cfg, name) for name in _SIZES}
    return dataclasses.replace(cfg, share="none", **same)


def _as_written(cfg):
    if cfg.head != "masked_lm":
        return cfg
    if cfg.share != "none":
        raise ValueError(
            f"transformers' electra has no counterpart: model.share={cfg.share!r} "
            "with model.head='masked_lm'; take the generator out of it by "
            "models.electra.part"
        )
    _check_activation(cfg)
    return cfg.generator


def _check_activation(cfg):
    """The reference's LM head has GELU, whatever its layers have."""
    if cfg.head == "masked_lm" and cfg.activation != "gelu":
        raise ValueError(
            f"transformers' electra has no counterpart: model.activation="
            f"{cfg.activation!r} with model.head='masked_lm' must be 'gelu'"
        )


ELECTRA = encoders.EncoderMap(
    model_type="electra",
    family=electra.FAMILY,
    architectures={
        "masked_lm": "ElectraForMaskedLM",
        "replaced": "ElectraForPreTraining",
        "tag": "ElectraForTokenClassification",
        "span": "ElectraForQuestionAnswering",
        "states": "ElectraModel",
    },
    fields=encoders.FIELDS | {"embedding_width": "embedding_size"},
    fixed=encoders.FIXED,
    defaults=encoders.DEFAULTS
    | dict(
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=1024,
        embedding_size=128,
    ),
    modules={
        **{
            f"{tower}/{ours}": f"electra.{theirs}"
            for tower in ("generator", "discriminator")
            for ours, theirs in (
                *ENCODER.items(),
                ("embedding/map", "embeddings_project"),
                *(
                    (f"stack/layer_{{}}/{ours}", f"encoder.layer.{{}}.{theirs}")
                    for ours, theirs in LAYER.items()
                ),
            )
        },
        "discriminator/embedding/word": "electra.embeddings.word_embeddings",
        "generator/embedding/word": (
            "electra.embeddings.word_embeddings",
            "generator_lm_head",
        ),
        "lm/dense": "generator_predictions.dense",
        "lm/norm": "generator_predictions.LayerNorm",
        "lm/bias": "generator_lm_head.bias",
        "replaced/dense": "discriminator_predictions.dense",
        "replaced/out": "discriminator_predictions.dense_prediction",
        "head/tag/out": "classifier",
        "head/span/out": "qa_outputs",
    },
    untold=frozenset({"share", *(f"generator_{name}" for name in _SIZES)}),
    as_read=_as_read,
    as_written=_as_written,
)
HUGGINGFACE = (ELECTRA,)
