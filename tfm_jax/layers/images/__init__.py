"""Layers of models that read or make images."""
