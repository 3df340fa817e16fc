"""Pictures and words in, vectors out: checkpoints, preprocessing, the encoder and its device."""
