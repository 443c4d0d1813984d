"""Text in, arrays out: sources, tokenizers, packing and the Grain pipeline."""
