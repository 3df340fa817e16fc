"""Memory that is freed stays with the process, for the next picture or batch."""

import ctypes
import sys

# Numbers of malloc.h of the GNU C library, and bytes. Blocks from the first limit on are the
# system's business; 32 MiB is the most that can be asked for. Of smaller ones as much as the second
# is kept, where by default a batch's memory is given back as soon as it is free.
_MMAP_THRESHOLD, _LARGE = -3, 32 * 2**20
_TRIM_THRESHOLD, _KEPT = -1, 256 * 2**20


def keep_freed_memory() -> None:
    """Call it before there are threads. Does nothing where the C library is another one.

    By default every picture's memory comes anew from the system, which clears it page by page. For
    a photograph of 600 x 450 that was 2.2 of 13.8 ms of a core, for the forward pass of an image 4
    to 10 of 150 ms. The process does not grow: this is memory that it asks for over and over.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _KEPT)
