"""Scores of whole answers, which no sum over tokens gives."""
