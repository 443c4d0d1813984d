"""Optimizers, learning-rate schedules, and learning rates by layer."""
