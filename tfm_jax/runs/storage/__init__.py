"""Checkpoints: arrays, manifest, weights; whole or absent."""
