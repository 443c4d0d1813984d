"""The runs of a study: which there are, what they are called, how they ended."""
