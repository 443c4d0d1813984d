"""Traced programs as text, to see whether two configurations compute the same."""

import re

import jax
import numpy as np


class Vocabulary:
    """What the program needs of a tokenizer."""

    source_vocab = target_vocab = 11


def traced(*functions_and_arguments):
    """Text of the traced programs and their constants, without addresses in memory."""
    programs = [jax.make_jaxpr(f)(*args) for f, args in functions_and_arguments]
    text = re.sub(r"0x[0-9a-f]+", "", "".join(map(str, programs)))
    constants = [_bytes(x) for program in programs for x in program.consts]
    return text + str(hash(tuple(constants)))


def _bytes(x):
    is_key = jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x).tobytes()
