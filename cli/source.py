"""What SOURCE means: a local path is made absolute, anything else is a name on the hub."""

import re
from pathlib import Path

from cli.failure import CommandError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LOCAL_SUFFIXES = frozenset({".parquet", ".csv", ".json", ".jsonl", ".arrow", ".zip", ".tar"})


def resolve_source(text: str, *, same_machine: bool) -> str:
    """The workers have another working folder, so a path leaves here absolute.

    What exists here is local, even where the hub has such a name too. With the workers on another
    machine (`same_machine` is false), a path that is absolute but not here can be there.
    """
    path = Path(text).expanduser()
    if path.exists():
        return str(path.absolute())
    if not _is_path(text) or "://" in text:
        return text
    if path.is_absolute() and not same_machine:
        return str(path)
    raise CommandError(f"no such file or folder: {text}")


def _is_path(text: str) -> bool:
    return not _HUB_ID.fullmatch(text) or Path(text).suffix.lower() in _LOCAL_SUFFIXES
