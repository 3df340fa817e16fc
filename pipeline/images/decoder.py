"""A decoder: a process that only decodes, so that an image can end nothing else.

`decoder_template.py` forks it, and `decoder_process.py` talks to it. It holds nothing worth
stealing: no settings, no secrets, one or two files at a time. Of its memory, the libraries are
shared.

It gets orders through its pipe, as JSON, and bytes through files in memory. It ends when the other
end of the pipe closes.
"""

import ctypes
import json
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import AvifImagePlugin, Image

from pipeline.base.logs import where
from pipeline.images import memory_files, preparing
from pipeline.images.decoding import NO_MEMORY, Unusable
from pipeline.images.preparing import Order

# The most address space that a decoder takes beyond what it starts with. One image of every kind
# was decoded at 9 megapixels (`python -m benchmarks.decoder_memory`): the worst, a PNG of 12 bits
# in 16 with transparency, took 48 bytes a pixel and its file; photographs as JPEG take 8, scans as
# DICOM 12 to 18, those of lossless JPEG 29 and in colour 39.
BYTES_A_PIXEL = 56
_FILES = 2
_SPARE = 256 * 2**20  # what malloc keeps, stacks, and images that are small

# A file of more bytes than this gives its memory back at once.
KEPT = 2**20 * 16

# The kernel ends a process by this when memory is short (proc(5), -1000 to 1000): better a
# decoder, which costs one more try, than the worker or Redis.
_EXPENDABLE = 500

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """`arguments` are the descriptors of the pipe and of the files, and the most pixels."""
    pipe, *files, max_pixels = map(int, arguments)
    _become_expendable()
    serve(Connection(pipe), files, max_pixels)


def preload() -> None:
    """Does what all decoders would do first, in their template."""
    Image.init()  # imports Pillow's formats, which the first image would wait for
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the other cores have decoders of their own
    torch.set_num_threads(1)


def serve(pipe: Connection, files: list[int], max_pixels: int) -> None:
    """Answers orders until the pipe ends."""
    most = _address_space() + _SPARE + BYTES_A_PIXEL * max_pixels
    with suppress(EOFError, ConnectionError):
        pipe.send_bytes(b"{}")  # ready
        while True:
            number, size, order = json.loads(pipe.recv_bytes())
            _limit_memory(most + _FILES * size)
            answer = _answer(files[number], size, max_pixels, Order.of_json(order))
            pipe.send_bytes(json.dumps(answer).encode())


def _answer(file: int, size: int, max_pixels: int, order: Order) -> dict[str, Any]:
    try:
        data = memory_files.read(file, size)
        memory_files.release(file, above=KEPT)
        made = preparing.prepare(data, max_pixels, order)
        if isinstance(made, Unusable):
            return {"reason": made.reason}
        pixels = np.asarray(made.pixels).tobytes()
        memory_files.write(file, pixels, made.preview, made.picture)
    except MemoryError:
        return {"reason": NO_MEMORY.reason}
    except OSError:
        return {"full": True}
    except Exception as error:  # noqa: BLE001 - the text of an error can quote the image
        return {"fault": where(error)}
    return {
        "preview": len(made.preview),
        "picture": len(made.picture),
        "width": made.width,
        "height": made.height,
        "phash": made.phash,
        "rule": made.rule,
        "window": made.window,
    }


def end_with_parent() -> None:
    """Where the system can do so; a closed pipe ends it as well, but not while it decodes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _become_expendable() -> None:
    """Ends with its template, ignores signals, and leaves no picture in a core file."""
    end_with_parent()
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(_EXPENDABLE))
    # Supervisors and terminals send these to all processes, and the worker ends in order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # At 0, a program that collects core files would still get one (core(5)).
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _address_space() -> int:
    """In bytes, now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _limit_memory(most: int) -> None:
    with suppress(
        ValueError, OSError
    ):  # the hard limit is lower, or the system knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
