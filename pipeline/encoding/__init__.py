"""Turns pictures and texts into vectors: checkpoints, preprocessing, the encoder, its device."""
