"""Flags: what is written on a command line, and how it is read."""
