"""Files in memory, through which two processes hand bytes to each other.

A descriptor is their only name, so the system frees them when the last process that has it ends,
however it ends.
"""

import os
import tempfile


def make() -> int:
    """A new file's descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("kindred")
    with tempfile.TemporaryFile() as file:  # it has no name either, but it may reach the disk
        return os.dup(file.fileno())


def write(file: int, *parts: bytes) -> None:
    """Writes the parts one after the other from the start. Raises OSError."""
    offset = 0
    for part in parts:
        left = memoryview(part)
        while left:  # the system may write less than it is given
            written = os.pwrite(file, left, offset)
            left, offset = left[written:], offset + written


def read(file: int, size: int, offset: int = 0) -> bytes:
    """Raises EOFError if the file is shorter."""
    parts = []
    while size > 0:
        parts.append(os.pread(file, size, offset))
        size, offset = size - len(parts[-1]), offset + len(parts[-1])
        if not parts[-1]:
            raise EOFError
    return b"".join(parts)


def release(file: int, above: int) -> None:
    """Gives back the memory of a file of more than `above` bytes."""
    if os.fstat(file).st_size > above:
        os.ftruncate(file, 0)
