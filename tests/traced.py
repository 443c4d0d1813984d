"""Traced programs as text, to see whether two configurations compute the same."""

import re

import jax


class Vocabulary:
    """What the program needs of a tokenizer."""

    source_vocab = target_vocab = 11


def traced(*functions_and_arguments):
    """Text of the traced programs, without addresses of Python objects."""
    text = "".join(str(jax.make_jaxpr(f)(*args)) for f, args in functions_and_arguments)
    return re.sub(r"0x[0-9a-f]+", "", text)
