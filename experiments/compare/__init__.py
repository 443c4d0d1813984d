"""Runs side by side: in what they differ, and what came of it."""
