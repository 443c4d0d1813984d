"""Transformer ablations in JAX and Flax Linen."""
