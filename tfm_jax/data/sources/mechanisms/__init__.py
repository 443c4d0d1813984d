"""Mechanisms: tasks of words, each of which asks for one thing that a model may do."""
