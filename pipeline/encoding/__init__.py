"""Turns pictures and texts into vectors: checkpoints, preprocessing, the encoder, its device."""

from pipeline.encoding.sparing import spare

spare()  # before a module of this package imports transformers
