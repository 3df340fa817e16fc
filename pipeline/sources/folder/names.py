"""Names of files: how they are shown, and when a table means one."""

import os
import re
import unicodedata
from collections.abc import Container
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# What operating systems and their programs leave beside the files of people.
_SYSTEM = frozenset({"thumbs.db", "thumbs.db:encryptable", "desktop.ini", "ehthumbs.db", "icon\r"})
_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "@eadir", "#recycle", "#snapshot", "~snapshot", "$recycle.bin",
        "system volume information", "lost+found",
    }
)  # fmt: skip
# What Finder keeps of a file, and what Office does while a document is open.
_SYSTEM_BEGINNINGS = ("._", "~$")

# A file of such a name that is none was meant to be a picture: a download that failed, say.
_PICTURES = frozenset(
    {
        ".avif", ".bmp", ".dcm", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
        ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip

_SLASHES = re.compile("//+")
_THIS_FOLDER = re.compile(r"(?:(?<=/)|^)(?:\./)+")


def shown(name: str) -> str:
    """A file's name as text. A name that is no UTF-8 is read as Windows wrote it (cp1252)."""
    if name.isascii():
        return name
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    return unicodedata.normalize("NFC", text)


def shown_path(path: str) -> str:
    """Part by part: a folder's name can be in one encoding, and a file's in another."""
    return "/".join(map(shown, path.split("/")))


def distinct(name: str, taken: Container[str]) -> str:
    """The name, or `a (2).jpg` and so on: two names on a disk can look the same in one folder."""
    own, number = name, 2
    while own in taken:
        path = PurePosixPath(name)
        own, number = f"{path.stem} ({number}){path.suffix}", number + 1
    return own


def slashed(name: str) -> str:
    """A name as a table gives it: with slashes, in one Unicode form, without `./` and blanks."""
    text = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    if "//" in text or "./" in text:
        text = _THIS_FOLDER.sub("", _SLASHES.sub("/", text))
    return text


def folded(name: str) -> str:
    """The key under which names match: whatever their case."""
    return unicodedata.normalize("NFC", slashed(name).casefold())


def stem(name: str) -> str:
    """A name without its last suffix: `a/b.1.jpg` is `a/b.1`.

    Digits are no suffix: `1.2.840.1` may be an identifier. Else it is what pathlib says, without
    the cost of a path for each of a million files.
    """
    own = name.rpartition("/")[2]
    at = own.rfind(".")
    has_one = 0 < at < len(own) - 1 and not own[at + 1 :].isdigit()
    return name[: at - len(own)] if has_one else name


def is_system(name: str) -> bool:
    """Whether a program of the operating system made this file or folder, for itself."""
    lowered = name.lower()
    return lowered in _SYSTEM or lowered in _SYSTEM_FOLDERS or name.startswith(_SYSTEM_BEGINNINGS)


def is_called_a_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _PICTURES


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits the file's name or, if it has a slash, its path. `*` is any text.

    As elsewhere, `masks/` is all in folders of that name, and `**/` may also stand for no folder.
    """
    return any(_fits(name, pattern.removeprefix("./")) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    if pattern.endswith("/"):
        return fnmatchcase(name, f"{pattern}*") or fnmatchcase(name, f"*/{pattern}*")
    if "/" not in pattern:
        return fnmatchcase(PurePosixPath(name).name, pattern)
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.removeprefix("**/"))


def climbs(name: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or name.startswith(("/", "\\")) or name[1:3] in (":\\", ":/")
