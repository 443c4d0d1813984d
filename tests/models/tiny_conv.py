"""Convolutional models that are small enough to compile fast."""

import functools

import jax

from tests.layers.weights import randomised
from tests.models.tiny import V
from tfm_jax.layers.layout import init_params
from tfm_jax.models.conv_seq2seq import Config, ConvSeq2Seq
from tfm_jax.objectives import translation

E = 6
NARROW = dict(
    embedding_width=E,
    output_width=5,
    encoder_widths=(8, 10),
    encoder_kernels=(3,),
    decoder_widths=(10, 8),
    decoder_kernels=(3, 2),
    max_length=16,
    source_vocab=V,
    target_vocab=V,
)


@functools.cache
def shapes(cfg):
    return jax.eval_shape(
        lambda: init_params(ConvSeq2Seq(cfg), jax.random.key(0), translation.example())
    )


def tiny(**changes):
    """A model with random weights, lengths and biases: (model, params)."""
    model = ConvSeq2Seq(Config(**NARROW | changes))
    return model, randomised(shapes(model.cfg))
