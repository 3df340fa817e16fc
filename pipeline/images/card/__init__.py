"""Decoding on the card: JPEG files in batches, everything else by the decoders on the CPU.

`decoders.py` is what a worker opens; `readable.py` says which files the card may have; `codecs.py`
is the library that decodes; `resampling.py` resizes a batch as Pillow or torch does; `batches.py`
makes of a batch what a decoder makes of one file. Only a worker imports this package: it needs
torch.
"""
