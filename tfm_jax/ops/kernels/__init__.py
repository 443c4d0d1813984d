"""Fused kernels of attention, from the structure of a mask alone."""
