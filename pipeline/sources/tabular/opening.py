"""Opens a local data set of Parquet or Arrow files: a single file, or a folder of them."""

import stat
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import SourceError
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.card import Config, read_card
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.columns import Features
from pipeline.sources.tabular.files import files_of
from pipeline.sources.tabular.reader import Naming, TabularReader, printable
from pipeline.sources.tabular.splits import ALL, DEFAULT, choose
from pipeline.sources.tabular.tables import faults_named, is_tabular


def open_tabular(selection: Selection, allowed: AllowedSources) -> TabularReader:
    """The rows of the Parquet and Arrow files at `selection.dataset`, an absolute path.

    Raises SourceNotAllowed; SourceError, with what to do; SourceUnavailable.
    """
    allowed.check(selection.dataset)
    path = allowed.real(selection.dataset)
    with faults_named(path):
        kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        return _open_folder(path, selection, allowed)
    if not stat.S_ISREG(kind) or not is_tabular(path):
        raise SourceError(
            f"{path} is neither Parquet nor Arrow; for images, name the folder that they are in."
        )
    return open_files([path], path.parent, selection, allowed, split=_split_of(path, selection))


def open_files(
    files: Sequence[Path],
    root: Path,
    selection: Selection,
    allowed: AllowedSources,
    *,
    split: str,
    config: str | None = None,
    described: Features | None = None,
) -> TabularReader:
    """Exactly these files, in this order, as one data set in the folder `root`.

    `config` becomes part of the ids of rows without their own. `described` are columns that are
    described elsewhere.
    """
    for file in files:
        allowed.real(file)
    dataset = str(allowed.real(selection.dataset))
    naming = Naming(
        dataset=dataset if config is None else f"{dataset}/{config}",
        split=split,
        names=tuple(printable(file, root) for file in files),
        folders=(root, *allowed.folders),
    )
    return TabularReader.of(
        files,
        naming,
        limit=selection.limit,
        image_column=selection.image_column,
        id_column=selection.id_column,
        described=described,
    )


def _open_folder(path: Path, selection: Selection, allowed: AllowedSources) -> TabularReader:
    card = read_card(path)
    config = card.choose(selection.config)
    split, files = files_of(config or _everything(path), selection.split, allowed)
    if not files and config is not None and selection.config is None:
        # The README.md is of another state of the folder.
        config = None
        split, files = files_of(_everything(path), selection.split, allowed)
    if not files:
        where = f"configuration {config.name} of {path}" if config else str(path)
        raise SourceError(f"There is no Parquet or Arrow file in {where}.")
    name = config.name if config and config.name != card.default else None
    described = card.features(config.name if config else None)
    return open_files(
        files, path, selection, allowed, split=split, config=name, described=described
    )


def _everything(path: Path) -> Config:
    return Config("default", path, {})


def _split_of(path: Path, selection: Selection) -> str:
    """A single file is all there is, whatever split its name speaks of."""
    if selection.split in (None, DEFAULT, ALL):
        return selection.split or DEFAULT
    return choose([path], path.parent, selection.split)[0]
