"""Tells what a file is from its first bytes, never from its name.

    kind = kind_of(head)   # head: the file's first HEAD (4,096) bytes; all of them if it is shorter
    kind.name              # "picture", "heic", "pdf", "text" …: one of KINDS, to count files by
    kind.fate              # Fate.TAKEN, Fate.REJECTED or Fate.SKIPPED
    kind.reason            # why the file is no picture, for a rejection; "" where the fate is TAKEN

A folder's walk takes a file whose fate is TAKEN: the decoder says later whether it is intact. It
rejects, by the file's name and with the reason, what is or should be a picture and cannot be read
(REJECTED). It counts every other file by the kind's name (SKIPPED). Where a picture must be, as in
an upload or in a row of a table, every file that is not TAKEN is rejected, with the kind's reason.

Standard library only, so that a walk costs no import of Pillow or NumPy.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from pipeline.images.signatures import signature
from pipeline.images.texts import text_kind

HEAD = 4096  # bytes


class Fate(StrEnum):
    """What becomes of a file of a kind in a folder."""

    TAKEN = "taken"
    REJECTED = "rejected"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Kind:
    """A kind of file; `reason` is a constant sentence without the file's content or name."""

    name: str
    fate: Fate
    reason: str = ""


EXPORT = "export the image as PNG, TIFF or JPEG"


def not_read(name: str) -> str:
    """Why a picture is rejected whose encoding, so named, no decoder here reads."""
    return f"{name}; this encoding is not read: {EXPORT}"


# Pictures in encodings that no decoder here reads.
_UNREAD = {
    "heic": f"a HEIC picture; this encoding is not read: install the extra heic, or {EXPORT}",
    "jxl": not_read("a JPEG XL picture"),
    "jxr": not_read("a JPEG XR picture"),
    "jpeg-ls": not_read("a JPEG-LS picture"),
    "cgbi": not_read("a PNG for Apple's own programs (CgBI)"),
    "raw": not_read("a camera's raw picture"),
    "svg": not_read("an SVG drawing"),
    "psd": not_read("a Photoshop picture"),
    "ico": not_read("an icon"),
    "pnm": not_read("a PAM or PFM picture"),
    "fits": not_read("a FITS picture"),
    "exr": not_read("an OpenEXR picture"),
    "hdr": not_read("a Radiance picture"),
    "dds": not_read("a DirectDraw picture"),
    "qoi": not_read("a QOI picture"),
    "pcx": not_read("a PCX picture"),
    "djvu": not_read("a DjVu document"),
    "nifti": not_read("a NIfTI volume"),
    "nrrd": not_read("an NRRD volume"),
    "czi": not_read("a slide of a Zeiss scanner"),
}

# Files where a picture should be, and of which nothing is left or nothing has come.
_MISSING = {
    "lfs pointer": "a Git LFS pointer, not the picture: run git lfs pull",
    "annex pointer": "a git-annex pointer, not the picture: run git annex get",
    "empty": "the file is empty",
    "zeros": "the file begins with nothing but zeros, as after a failed copy",
}

# Kinds that lie beside pictures and are none.
_OTHERS = {
    "parquet": "a parquet file, not a picture",
    "arrow": "an Arrow file, not a picture",
    "table": "a file of a data set (ORC, Avro or Feather), not a picture",
    "zip": "a zip archive, not a picture",
    "tar": "a tar archive, not a picture",
    "gzip": "a gzip file, not a picture",
    "7z": "a 7z archive, not a picture",
    "rar": "a rar archive, not a picture",
    "archive": "an archive (bzip2, xz, zstd or cab), not a picture",
    "pdf": f"a PDF, not a picture: {EXPORT}",
    "postscript": f"PostScript, not a picture: {EXPORT}",
    "video": f"a video, not a picture: {EXPORT}",
    "audio": "audio, not a picture",
    "office": "an Office document, not a picture",
    "sqlite": "an SQLite database, not a picture",
    "hdf5": "an HDF5 file, not a picture",
    "numpy": "a NumPy array, not a picture",
    "weights": "a model's weights, not a picture",
    "program": "a program, not a picture",
    "system": "an operating system's own file, not a picture",
    "dicom directory": "a DICOM directory, which lists pictures and holds none",
    "json": "JSON, not a picture",
    "html": "HTML, not a picture",
    "xml": "XML, not a picture",
    "text": "text, not a picture",
    "unknown": "not a picture, and of no known kind",
}

KINDS: dict[str, Kind] = {
    "picture": Kind("picture", Fate.TAKEN),
    "dicom": Kind("dicom", Fate.TAKEN),
    **{name: Kind(name, Fate.REJECTED, reason) for name, reason in (_UNREAD | _MISSING).items()},
    **{name: Kind(name, Fate.SKIPPED, reason) for name, reason in _OTHERS.items()},
}


def reads_heic() -> bool:
    """Whether the extra `heic` is installed, which reads what phones write."""
    return find_spec("pillow_heif") is not None


# The extra turns HEIC into pictures like all others.
if reads_heic():
    KINDS["heic"] = KINDS["picture"]


def kind_of(head: bytes) -> Kind:
    """The kind of a file that begins with `head`: 4,096 bytes, or all of a shorter file.

    It never raises. More bytes are allowed and change nothing.
    """
    return KINDS[_name(head[:HEAD])]


def _name(head: bytes) -> str:
    if not head:
        return "empty"
    return signature(head) or text_kind(head, HEAD) or ("unknown" if any(head) else "zeros")
