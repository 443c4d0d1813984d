"""Trained models in use: decoding, scores, probes, prompts."""
