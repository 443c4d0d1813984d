"""Decoding: takes a ``step(tokens, cache)`` callable, not a model."""
