"""How a batch becomes jobs: the workers read its files where they lie, or we send them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cli.client import Client
from cli.documents import Document, Job
from cli.upload import Selection, Sent, Upload
from cli.watch.state import Batch

# A job is told to its watcher with the paths of its files, in their order.
Started = Callable[[Job, Sequence[str]], None]


NOT_TEXT = "its name is no UTF-8: rename it, or watch with --upload"


class Sending(Protocol):
    def refused(self, path: str) -> str | None:
        """Why a file is not sent at all."""

    def __call__(self, batch: Batch, tables: Sequence[str], started: Started) -> None:
        """Raises CommandError. To repeat it starts no second job."""


@dataclass(frozen=True)
class ByPath:
    """`source` are the fields that each job has in common."""

    client: Client
    folder: Path
    source: Document
    options: Document

    def refused(self, path: str) -> str | None:
        """A name that is no UTF-8 cannot stand in JSON."""
        try:
            path.encode()
        except UnicodeEncodeError:
            return NOT_TEXT
        return None

    def __call__(self, batch: Batch, tables: Sequence[str], started: Started) -> None:
        paths = [path for path in (*batch.files, *tables) if self.refused(path) is None]
        if not paths:
            return
        if batch.tabular:
            source: Document = {"dataset": str(self.folder / paths[0])}
        else:
            source = {**self.source, "dataset": str(self.folder), "only": paths}
        started(self.client.submit(source, self.options, batch.id), paths)


@dataclass(frozen=True)
class BySending:
    """`stopping` is asked between two requests, and raises what is to end them."""

    client: Client
    folder: Path
    selection: Selection
    options: Document
    stopping: Callable[[], None]

    def refused(self, path: str) -> str | None:
        return None

    def __call__(self, batch: Batch, tables: Sequence[str], started: Started) -> None:
        def told(sent: Sent) -> None:
            started(sent.job, tuple(place or only for place in sent.places))
            self.stopping()

        only = next(iter(batch.files)) if batch.tabular else ""
        selection = replace(self.selection, only=(*batch.files, *tables))
        if batch.tabular:
            selection = Selection([str(self.folder / only)])
        upload = Upload(self.client, self.options, id=batch.id, told=told)
        upload.send(selection, lambda step: None)
