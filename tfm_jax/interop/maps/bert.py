"""BERT in transformers.

Source: Devlin et al. 2019, arXiv:1810.04805, as the ``Bert...`` classes of transformers
5. Files of pre-trained models often hold more heads than the class that they name: the
pooler and the head of pairs are left out where that class does without them, and the
pooler of the bare model, which has states alone here.
Deviates from the reference: the row of the padding token in the table of words is
    trained like any other, there it gets no gradient as an input.
"""

import re

from tfm_jax.interop.maps import encoders
from tfm_jax.models import bert

ENCODER = {  # our module -> the reference's below its encoder
    "embedding/position": "embeddings.position_embeddings",
    "embedding/type": "embeddings.token_type_embeddings",
    "embedding/norm": "embeddings.LayerNorm",
}
LAYER = {
    "self_attention/query": "attention.self.query",
    "self_attention/key": "attention.self.key",
    "self_attention/value": "attention.self.value",
    "self_attention/out": "attention.output.dense",
    "self_attention_residual/norm_after": "attention.output.LayerNorm",
    "ffn/up": "intermediate.dense",
    "ffn/down": "output.dense",
    "ffn_residual/norm_after": "output.LayerNorm",
}
BERT = encoders.EncoderMap(
    model_type="bert",
    family=bert.FAMILY,
    architectures={
        "pretraining": "BertForPreTraining",
        "masked_lm": "BertForMaskedLM",
        "pair": "BertForNextSentencePrediction",
        "classify": "BertForSequenceClassification",
        "tag": "BertForTokenClassification",
        "span": "BertForQuestionAnswering",
        "states": "BertModel",
    },
    modules={
        **{f"encoder/{ours}": f"bert.{theirs}" for ours, theirs in ENCODER.items()},
        **{
            f"encoder/stack/layer_{{}}/{ours}": f"bert.encoder.layer.{{}}.{theirs}"
            for ours, theirs in LAYER.items()
        },
        "encoder/embedding/word": (
            "bert.embeddings.word_embeddings",
            "cls.predictions.decoder",
        ),
        "head/lm/dense": "cls.predictions.transform.dense",
        "head/lm/norm": "cls.predictions.transform.LayerNorm",
        "head/lm/bias": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        "head/pooler/dense": "bert.pooler.dense",
        "head/pair/out": "cls.seq_relationship",
        "head/classify/out": "classifier",
        "head/tag/out": "classifier",
        "head/span/out": "qa_outputs",
    },
    fields=encoders.FIELDS,
    fixed=encoders.FIXED,
    defaults=encoders.DEFAULTS,
    beside=re.compile(
        r"(bert\.pooler\.dense|cls\.seq_relationship)\.(weight|bias)|cls\.predictions\..*"
    ),
)
HUGGINGFACE = (BERT,)
