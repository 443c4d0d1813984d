"""ELECTRA: the name map and the two configurations, each one table for both ways.

Source: Clark et al. 2020, arXiv:2003.10555, as ``ElectraForPreTraining``, which is the
discriminator, and ``ElectraForMaskedLM``, the generator, of transformers 5. It has no
class for both: ``models.electra.part`` takes either out of what was trained jointly.
The head "classify" has no counterpart: ``ElectraForSequenceClassification`` has a dense
map and GELU before that to the labels.
Deviates from the reference: the row of the padding token in the table of words is
    trained like any other, there it gets no gradient as an input.
"""

import dataclasses

from tfm_jax.interop import encoders
from tfm_jax.interop.bert import ENCODER, LAYER
from tfm_jax.models import electra

_SIZES = ("width", "heads", "ffn_width", "depth")
REFERENCE = encoders.Reference(
    model_type="electra",
    architectures={
        "masked_lm": "ElectraForMaskedLM",
        "replaced": "ElectraForPreTraining",
        "tag": "ElectraForTokenClassification",
        "span": "ElectraForQuestionAnswering",
        "states": "ElectraModel",
    },
    fields=encoders.FIELDS | {"embedding_width": "embedding_size"},
    defaults=encoders.DEFAULTS
    | dict(hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    | dict(embedding_size=128),
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
    free=frozenset({"share", *(f"generator_{name}" for name in _SIZES)}),
)


def read_config(values: dict) -> electra.Config:
    """The model that the content of a ``config.json`` describes.

    Raises: ValueError listing every field that is missing or has no counterpart here.
    """
    cfg = encoders.read_config(REFERENCE, electra.Config, values)
    _check_activation(cfg)
    same = {f"generator_{name}": getattr(cfg, name) for name in _SIZES}
    return dataclasses.replace(cfg, share="none", **same)


def write_config(cfg: electra.Config) -> dict:
    """The content of ``config.json`` for ``cfg``, token ids apart.

    Raises: ValueError listing every field that the reference cannot represent.
    """
    if cfg.head == "masked_lm":
        if cfg.share != "none":
            raise ValueError(
                f"transformers' electra has no counterpart: model.share={cfg.share!r} "
                "with model.head='masked_lm'; take the generator out of it by "
                "models.electra.part"
            )
        _check_activation(cfg)
        cfg = cfg.generator
    return encoders.write_config(REFERENCE, cfg)


def to_params(cfg: electra.Config, tensors) -> dict:
    """Nested dict of float32 parameters for the unrolled ``Electra(cfg)``.

    Raises: ValueError listing all that is unknown, missing or does not fit.
    """
    return encoders.to_params(REFERENCE, electra.Electra(cfg), tensors)


def to_tensors(cfg: electra.Config, params) -> dict:
    """The inverse of ``to_params``, of any layout."""
    return encoders.to_tensors(REFERENCE, electra.Electra(cfg), params)


def _check_activation(cfg):
    """The reference's head of words has GELU, whatever its layers have."""
    if cfg.head == "masked_lm" and cfg.activation != "gelu":
        raise ValueError(
            f"transformers' electra has no counterpart: model.activation="
            f"{cfg.activation!r} with model.head='masked_lm' must be 'gelu'"
        )
