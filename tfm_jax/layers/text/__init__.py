"""Encoders of text, alone and beside learned queries."""
