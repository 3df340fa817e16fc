"""`kindred deidentify-report`: what a job kept of DICOM files and what it dropped, in numbers."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.failure import CommandError
from pipeline.base.errors import SourceError, SourceUnavailable

AT_ONCE = 1000  # names in one request


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{report['files']:,} DICOM files with {report['frames']:,} frames became rows;"
        f" {report['refused']:,} refused, {report['quarantined']:,} quarantined"
    )
    for name, title in (("skipped", "skipped, by kind"), ("kept", "kept"), ("dropped", "dropped")):
        counted = sorted(report[name].items(), key=lambda pair: (-pair[1], pair[0]))
        if counted:
            yield f"{title}:"
            yield from (f"  {count:>9,}  {what}" for what, count in counted)


def find_files(client: Client, job: str, folder: Path) -> list[tuple[str, str]]:
    """(what the job's lists call a file, its path) of each that is in the folder.

    Raises CommandError.
    """
    listed = {str(each.get("name") or "") for each in client.rejections(job)}
    listed |= {each["name"] for each in client.skipped(job)}
    found: list[tuple[str, str]] = []
    for names in _batches(_names_below(folder)):
        hashed = client.hidden_names(names)
        for name, several in zip(names, hashed, strict=True):
            found += [(each, name) for each in several if each in listed]
    return found


def _names_below(folder: Path) -> Iterator[str]:
    """Imports the library here: it takes a while to load."""
    from pipeline.sources.folder.reader import Pictures, directory
    from pipeline.sources.folder.survey import Rules, survey

    try:
        for each in survey(directory(Pictures(folder.absolute(), (Path("/"),))), Rules()):
            yield each.name
    except (SourceError, SourceUnavailable) as error:
        raise CommandError(str(error)) from error


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(names, AT_ONCE)):
        yield some
