"""The encoder that fills a store where none is needed."""

from pipeline.messages import EncoderInfo

DIMENSIONS = 16
ENCODER = EncoderInfo(
    model="acme/vit",
    revision=None,
    weights_sha256="ab" * 32,
    pooling="mean",
    preprocessing="224 bicubic",
    dimensions=DIMENSIONS,
)
