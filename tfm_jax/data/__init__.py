"""Text in, arrays out: sources, tokenizers, rows and batches."""
