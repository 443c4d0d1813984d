"""Ahead of time: what a run would be on machines that are not here."""
