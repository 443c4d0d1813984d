"""Where examples come from: text files, TFDS, and texts that are made."""
