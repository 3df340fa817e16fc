"""What SOURCE means: a local path is made absolute, anything else is a name on the hub.

Sources of other kinds are described field by field, as in `--kind dataset --set limit=5`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from cli.documents import Document
from cli.failure import CommandError, UsageError
from pipeline.base.addresses import is_loopback

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ARCHIVES = {
    "dicomweb://": "http://",
    "dicomwebs://": "https://",
    "http://": "http://",
    "https://": "https://",
}
_LOCAL_SUFFIXES = frozenset({".parquet", ".csv", ".json", ".jsonl", ".arrow", ".zip", ".tar"})


def dataset_source(sources: Sequence[str], host: str) -> Document:
    """The one SOURCE of a command, for the api on `host`. Raises UsageError for several."""
    if len(sources) > 1:
        raise UsageError("one data set or folder at a time; several files need --upload")
    if url := archive_of(sources[0]):
        return {"kind": "dicomweb", "url": url}
    return {"dataset": resolve_source(sources[0], same_machine=is_loopback(host))}


def table_path(table: str | None, host: str) -> str | None:
    """The path of --table, for the workers. Raises CommandError if no such file is there."""
    if table is None:
        return None
    path = Path(table).expanduser()
    if path.is_file() or (path.is_absolute() and not is_loopback(host)):
        return _sendable(str(path.absolute()))
    raise CommandError(f"no such file: {table}")


def parse_fields(given: Sequence[str]) -> Document:
    """Of NAME=VALUE each: a value is JSON, as 5 or ["a"] are, or else text. Raises UsageError."""
    fields: Document = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError("--set takes NAME=VALUE, as in limit=5")
        fields[name] = _json_or_text(value)
    return fields


def _json_or_text(value: str) -> object:
    try:
        found: object = json.loads(value)
    except ValueError:
        return value
    return found


def archive_of(text: str) -> str | None:
    """The URL of a DICOMweb archive: of dicomweb://…, or dicomwebs://… over TLS; else None."""
    for scheme, meant in _ARCHIVES.items():
        if text.startswith(scheme):
            return meant + text.removeprefix(scheme)
    return None


def resolve_source(text: str, *, same_machine: bool) -> str:
    """The workers have another working folder, so a path leaves here absolute.

    What exists here is local, even where the hub has such a name too. With the workers on another
    machine (`same_machine` is false), a path that is absolute but not here can be there.
    """
    path = Path(text).expanduser()
    if path.exists():
        return _sendable(str(path.absolute()))
    if not _is_path(text) or "://" in text:
        return text
    if path.is_absolute() and not same_machine:
        return str(path)
    raise CommandError(f"no such file or folder: {text}")


def _sendable(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise CommandError(
            f"{path} is no UTF-8: rename it, or send its files with --upload"
        ) from None
    return path


def _is_path(text: str) -> bool:
    return not _HUB_ID.fullmatch(text) or Path(text).suffix.lower() in _LOCAL_SUFFIXES
