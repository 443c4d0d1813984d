"""Recurrent encoders and decoders, and what of the source a decoder is given."""
